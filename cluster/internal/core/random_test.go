package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRandomFaults plays random faults and checks the invariants: after each step
// those of every single core and every single change, and at rest that all views
// are equal and right. A run that fails is shrunk and printed as a scenario.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	steps, seed := steps()
	failed := 0
	first, done := seed, uint64(0)
	for ; done < steps && failed < 3; seed++ {
		lines := randomFaults(seed)
		n, broken := playFaults(seed, lines)
		done += n
		if broken == "" {
			continue
		}
		failed++
		lines, broken = shrink(seed, lines, broken)
		t.Errorf("seed %d: %s\n%s", seed, broken, strings.Join(lines, "\n"))
	}
	t.Logf("%d steps, seeds %d to %d", done, first, seed-1)
}

// randomFaults returns a scenario of random faults.
func randomFaults(seed uint64) []string {
	r := rng(seed*7919 + 3)
	pick := func(of ...string) string { return of[r.below(len(of))] }
	n := []int{2, 3, 4, 5, 6, 8, 9, 12, 16}[r.below(9)]
	host := func() string { return fmt.Sprint("n", 1+r.below(n)) }
	lines := []string{fmt.Sprint("start ", n), "run 5s"}
	hurry := r.below(3)
	extra := n
	for range 2 + r.below(9) {
		switch r.below(16) {
		case 0, 1:
			lines = append(lines, "kill "+host())
		case 2:
			lines = append(lines, "poweroff "+host())
		case 3, 4:
			lines = append(lines, "start "+host())
		case 5:
			lines = append(lines, fmt.Sprint("start ", host(), " fresh seed=n", 1+r.below(n), pick("", " back=1h")))
		case 6, 7:
			lines = append(lines, "pause "+host()+" "+pick("900ms", "1500ms", "2s", "3s", "5s", "9s", "20s"))
		case 8:
			at := 1 + r.below(n)
			if at < n {
				lines = append(lines, fmt.Sprintf("cut n1-n%d | n%d-n%d", at, at+1, n))
			}
		case 9:
			lines = append(lines, pick("deaf ", "mute ", "isolate ")+host())
		case 10:
			lines = append(lines, "loss "+host()+pick(" in ", " out ")+pick("20%", "50%", "80%"))
		case 11:
			lines = append(lines, "loss all "+pick("5%", "20%", "40%"))
		case 12:
			lines = append(lines, "heal")
		case 13:
			lines = append(lines, pick("leave ", "forget "+host()+" ")+host())
		case 14:
			extra++
			lines = append(lines, fmt.Sprintf("start n%d seed=%s%s", extra, host(), pick("", "", " name="+host())))
		case 15:
			lines = append(lines, pick("slow 5%", "twice 5%", "cut "+host()+" > "+host()))
		}
		if r.below(3) >= hurry {
			lines = append(lines, "run "+pick("1ms", "100ms", "700ms", "2s", "5s", "12s", "40s"))
		}
	}
	return lines
}

// playFaults plays lines, then lets all come to rest, and returns what broke.
func playFaults(seed uint64, lines []string) (steps uint64, broken string) {
	s := newScenario(seed)
	w := s.w
	defer func() {
		if p := recover(); p != nil {
			steps, broken = max(w.steps, 1), fmt.Sprint("panic: ", p)
		}
	}()
	fail := func(format string, args ...any) (uint64, string) {
		return w.steps, fmt.Sprintf("%v: ", w.now) + fmt.Sprintf(format, args...)
	}
	check := func() string {
		for _, p := range w.running() {
			if err := p.core.check(); err != "" {
				return p.h.label + ": " + err
			}
		}
		if len(w.broken) > 0 {
			return w.broken[0]
		}
		return ""
	}
	for _, l := range lines {
		s.do(l)
		if b := check(); b != "" {
			return fail("after %q: %s", l, b)
		}
	}
	s.do("heal")
	w.run(21 * time.Second) // the longest pause ends
	if len(w.running()) == 0 {
		return w.steps, ""
	}
	if w.hosts[0].proc == nil {
		s.do("start n1")
	}
	for _, p := range w.running() { // an operator helps those that know nobody
		if p.h.index > 0 {
			p.exchange(w.hosts[0].addr)
		}
	}
	if took, ok := w.until(12*time.Second, func() bool { return s.holds("agree", nil) }); !ok {
		return fail("views differ %v after the last fault:\n%s%s", took, s.views(), s.differences())
	}
	differs := time.Duration(0)
	for end := w.now + 40*time.Second; w.now < end; {
		w.run(250 * time.Millisecond)
		if differs += 250 * time.Millisecond; s.holds("agree", nil) {
			differs = 0
		}
		if differs > time.Second {
			return fail("views differ again:\n%s%s", s.views(), s.differences())
		}
		if b := check(); b != "" {
			return fail("at rest: %s", b)
		}
	}
	for _, p := range w.running() {
		for _, o := range w.procs {
			i, ok := p.core.Shown(o.id)
			switch {
			case o.gone && ok && i.Shown == Alive:
				return fail("%s shows %s, which died, as alive:\n%s", p.h.label, w.label(o.id), s.views())
			case !o.gone && (!ok || i.Shown >= Failed):
				return fail("%s does not show %s as living:\n%s", p.h.label, w.label(o.id), s.views())
			}
		}
	}
	limit := cleanMost + time.Minute
	if took, ok := w.until(limit, func() bool { return s.holds("whole", nil) }); !ok {
		return fail("not whole %v after the last fault:\n%s%s", took, s.views(), s.stats(s.hosts([]string{"all"})))
	}
	for _, p := range w.running() {
		holders := map[string]int{}
		for _, r := range p.core.byID {
			if i, ok := p.core.Shown(r.ID); ok && i.Shown == Alive && !i.Shadowed {
				holders[r.Name]++
				if holders[r.Name] > 1 {
					return fail("%s knows two holders of %s", p.h.label, r.Name)
				}
			}
		}
		for _, o := range w.running() {
			if holders[o.name] != 1 {
				return fail("%s knows no holder of %s", p.h.label, o.name)
			}
		}
	}
	if b := check(); b != "" {
		return fail("at the end: %s", b)
	}
	return w.steps, ""
}

// shrink leaves out what does not matter to a failure, and shortens what does.
func shrink(seed uint64, lines []string, broken string) ([]string, string) {
	for again, tries := true, 0; again && tries < 150; {
		again = false
		for i := len(lines) - 1; i >= 1; i-- {
			less := slices.Delete(slices.Clone(lines), i, i+1)
			tries++
			if _, b := playFaults(seed, less); b != "" {
				lines, broken, again = less, b, true
			}
		}
		for i, l := range lines {
			f := strings.Fields(l)
			if f[0] != "run" && f[0] != "pause" {
				continue
			}
			d := span(f[len(f)-1]) / 2
			if d < time.Millisecond {
				continue
			}
			f[len(f)-1] = d.String()
			less := slices.Clone(lines)
			less[i] = strings.Join(f, " ")
			tries++
			if _, b := playFaults(seed, less); b != "" {
				lines, broken, again = less, b, true
			}
		}
	}
	return lines, broken
}

// check checks what must hold of a core after every step.
func (c *Core) check() string {
	hash, live, gone, ring := uint64(0), 0, 0, 0
	for i, r := range c.byID {
		hash += r.sum()
		if i > 0 && c.byID[i-1].ID >= r.ID || c.rows[r.ID] != r {
			return "the rows are not in order"
		}
		if r.State.gone() {
			gone++
			if slices.Contains(c.ring, r) {
				return "a departed one is on the ring"
			}
			if r.watch != nil && c.self.State != Left {
				return "a departed one is watched"
			}
		} else {
			live++
			ring++
			if !slices.Contains(c.ring, r) {
				return "a live one is not on the ring"
			}
		}
		if !slices.Contains(c.named(r.Name), r) || !c.hasAddr(r) {
			return "a row is missing in an index"
		}
		if len(r.votes) > maxVotes {
			return "too many votes"
		}
		if r.hot != slices.Contains(c.hot, r) {
			return "hot is wrong"
		}
		if len(r.votes) > 0 && !r.hot && !r.State.gone() {
			return "votes that nobody will look at"
		}
		if (r.watch != nil) != slices.Contains(c.partners, r) {
			return "a watch without a partner"
		}
	}
	switch {
	case hash != c.hash:
		return "the hash is wrong"
	case live != ring || gone != c.gone || ring != len(c.ring) || len(c.rows) != len(c.byID):
		return fmt.Sprintf("the counts are wrong: live %d %d, gone %d %d, ring %d %d", live, ring, gone, c.gone, ring, len(c.ring))
	case len(c.own.votes) > maxVotes || len(c.retellings) > maxRetellings || len(c.contacts.order) > maxUnknown || len(c.contacts.order) != len(c.contacts.unknown):
		return "a queue is too long"
	case len(c.partners) > 4*walkLimit:
		return "too many partners"
	case c.self.State >= Failed && c.self.State != Left:
		return "this peer holds itself " + c.self.State.String()
	}
	return ""
}

// differences writes the records in which the tables differ.
func (s *scenario) differences() string {
	var b strings.Builder
	for _, o := range s.w.procs {
		var texts []string
		for _, p := range s.viewers() {
			text := "nothing"
			if r := p.core.rows[o.id]; r != nil {
				text = fmt.Sprintf("%d %v %v #%d", r.Epoch, r.State, r.Cause, r.Rec.Number)
			}
			texts = append(texts, p.h.label+": "+text)
		}
		if slices.ContainsFunc(texts, func(t string) bool {
			_, a, _ := strings.Cut(t, ":")
			_, z, _ := strings.Cut(texts[0], ":")
			return a != z
		}) {
			fmt.Fprintf(&b, "  record of %s (%d): %s\n", s.w.label(o.id), o.id, strings.Join(texts, ", "))
		}
	}
	return b.String()
}

func (c *Core) hasAddr(r *row) bool {
	for o := c.addrs[r.Addr]; o != nil; o = o.nextAddr {
		if o == r {
			return true
		}
	}
	return false
}
