package core

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// scenario carries out commands, one a line, in one world. Peers are called by
// the name of their host, n1, n2 and so on; n3-n7 are five of them, and all is
// everybody that runs.
//
//	start 5                     n1 to n5 start, with n1 as their seed
//	start n6 name=n3 seed=n1,n2 one starts; also: fresh (no data directory),
//	                            back=1h (the clock went back), noroute
//	kill, poweroff, leave n3    one ends
//	pause n2 3s                 one is stopped and runs again
//	cut n1 n2 | n3              nothing passes either way
//	cut n1 > n3                 nothing passes this way
//	deaf, mute, isolate n3      it gets nothing, sends nothing, both
//	nolink n3                   its interface is down
//	refuse n2 n5                a firewall between them refuses
//	reset n2                    all its streams end
//	loss n7 out 80%             also: in, all (loss all 20%)
//	flap n7 in 100% 20s 240s    on and off for 20 s each, for 240 s in all
//	slow 5%, twice 5%           datagrams are late, or come twice
//	heal                        the network is whole again
//	forget n1 n4                an operator on n1 forgets the name n4
//	join n1 n4                  n1 is told of the address of n4
//	run 10s
//	mark                        changes count from here on
//	bar 2s out n3 n4            a state is reached everywhere in this time: out,
//	                            failed, in, gone (not shown), whole, agree, and
//	                            knows (the peer itself says what is wrong)
//	hold 10s whole              it stays so
//	most 4 n7                   changes of state about n7 in each other view
//	most 0 but n7               about and by all others
//	never failed n2             nobody showed n2 so since mark
//	idle 60s                    no message of the core is sent
//	views, stats n7, changes n7, holder n3
type scenario struct {
	w      *world
	ring   []*simHost // neighbours on the ring
	marked int
	missed []string
	bars   []barTime // what each bar took
}

type barTime struct {
	line string
	took time.Duration
	ok   bool
}

func newScenario(seed uint64) *scenario { return &scenario{w: newWorld(seed)} }

// do carries out one command and returns its output.
func (s *scenario) do(line string) string {
	f := strings.Fields(line)
	w := s.w
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	switch f[0] {
	case "start":
		if n, err := strconv.Atoi(arg(1)); err == nil {
			for i := range n {
				s.w.host(fmt.Sprint("n", i+1))
			}
			for i := range n {
				var seeds []netip.AddrPort
				if i > 0 {
					seeds = append(seeds, w.hosts[0].addr)
				}
				w.start(w.hosts[i], startOptions{seeds: seeds})
			}
			break
		}
		var o startOptions
		var at []*simHost
		noRoute := false
		for _, a := range f[1:] {
			key, value, _ := strings.Cut(a, "=")
			switch key {
			case "name":
				o.name = value
			case "seed":
				for _, h := range s.hosts(strings.Split(value, ",")) {
					o.seeds = append(o.seeds, h.addr)
				}
			case "fresh":
				o.fresh = true
			case "noroute":
				noRoute = true
			case "back":
				o.back = span(value)
			default:
				at = append(at, s.hosts([]string{a})...)
			}
		}
		for _, h := range at {
			h.noRoute = noRoute
			w.start(h, o)
		}
	case "kill":
		for _, h := range s.hosts(f[1:]) {
			w.kill(h)
		}
	case "poweroff":
		for _, h := range s.hosts(f[1:]) {
			w.powerOff(h)
		}
	case "leave":
		for _, h := range s.hosts(f[1:]) {
			w.leave(h)
		}
	case "pause":
		for _, h := range s.hosts(f[1 : len(f)-1]) {
			w.pause(h, span(f[len(f)-1]))
		}
	case "cut":
		if at := slices.Index(f, "|"); at > 0 {
			s.cut(f[1:at], f[at+1:])
			s.cut(f[at+1:], f[1:at])
		} else if at := slices.Index(f, ">"); at > 0 {
			s.cut(f[1:at], f[at+1:])
		}
	case "deaf":
		s.cut([]string{"hosts"}, f[1:])
	case "mute":
		s.cut(f[1:], []string{"hosts"})
	case "isolate":
		s.cut([]string{"hosts"}, f[1:])
		s.cut(f[1:], []string{"hosts"})
	case "reset":
		for _, h := range s.hosts(f[1:]) {
			w.reset(h)
		}
	case "refuse":
		for _, h := range s.hosts(f[1:]) {
			for _, o := range s.hosts(f[1:]) {
				h.refuse[o.index], h.cut[o.index] = o != h, o != h
			}
		}
	case "nolink":
		for _, h := range s.hosts(f[1:]) {
			w.unlink(h)
		}
	case "loss":
		if f[1] == "all" {
			w.net.loss = perMille(f[2])
			break
		}
		for _, h := range s.hosts(f[1 : len(f)-2]) {
			h.lose(f[len(f)-2], perMille(f[len(f)-1]))
		}
	case "flap":
		n := len(f)
		s.flap(s.hosts(f[1:n-4]), f[n-4], perMille(f[n-3]), span(f[n-2]), w.now+span(f[n-1]))
	case "slow":
		w.net.slow = perMille(f[1])
	case "twice":
		w.net.twice = perMille(f[1])
	case "heal":
		w.net.loss = 0
		for _, h := range w.hosts {
			h.lossIn, h.lossOut, h.noRoute, h.noLink = 0, 0, false, false
			clear(h.cut)
			clear(h.refuse)
		}
	case "forget":
		for _, h := range s.hosts(f[1:2]) {
			if h.proc != nil {
				h.proc.step(Forget{Name: f[2]})
			}
		}
	case "join":
		for _, h := range s.hosts(f[1:2]) {
			h.proc.exchange(w.host(f[2]).addr)
		}
	case "run":
		w.run(span(f[1]))
		return ""
	case "mark":
		s.marked = len(w.history)
		return ""
	case "bar":
		return s.bar(line, span(f[1]), f[2], s.hosts(f[3:]))
	case "hold":
		return s.hold(line, span(f[1]), f[2], s.hosts(f[3:]))
	case "most":
		n, err := strconv.Atoi(f[1])
		must(err)
		return s.most(line, n, arg(2) == "but", s.hosts(f[2:]))
	case "never":
		return s.never(line, f[1], s.hosts(f[2:]))
	case "idle":
		before := w.sends
		w.run(span(f[1]))
		if n := w.sends - before; n > 0 {
			return s.miss(line, "%d messages", n)
		}
		return "ok\n"
	case "views":
		return s.views()
	case "stats":
		return s.stats(s.hosts(f[1:]))
	case "changes":
		return s.changes(s.hosts(f[1:]))
	case "holder":
		return s.holder(f[1])
	default:
		panic("unknown command: " + line)
	}
	w.disturb()
	return ""
}

func span(s string) time.Duration {
	d, err := time.ParseDuration(s)
	must(err)
	return d
}

func perMille(s string) int {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	must(err)
	return int(v * 10)
}

// hosts returns the hosts that words name.
func (s *scenario) hosts(words []string) []*simHost {
	var out []*simHost
	for _, word := range words {
		from, to, many := strings.Cut(word, "-")
		switch {
		case word == "but":
		case word == "all":
			for _, h := range s.w.hosts {
				if h.proc != nil {
					out = append(out, h)
				}
			}
		case word == "hosts":
			out = append(out, s.w.hosts...)
		case word == "ring3" || word == "ring1": // neighbours on the ring
			if s.ring == nil { // as it was at first
				for _, r := range s.w.hosts[0].proc.core.ring {
					s.ring = append(s.ring, s.w.proc(r.ID).h)
				}
			}
			out = append(out, s.ring[:int(word[4]-'0')]...)
		case many:
			a, err := strconv.Atoi(from[1:])
			must(err)
			b, err := strconv.Atoi(to[1:])
			must(err)
			for i := a; i <= b; i++ {
				out = append(out, s.w.host(fmt.Sprint("n", i)))
			}
		default:
			out = append(out, s.w.host(word))
		}
	}
	return out
}

func (s *scenario) cut(from, to []string) {
	targets := s.hosts(to)
	for _, a := range s.hosts(from) {
		for _, b := range targets {
			if a != b {
				a.cut[b.index] = true
			}
		}
	}
}

func (h *simHost) lose(way string, n int) {
	if way == "in" {
		h.lossIn = n
	} else {
		h.lossOut = n
	}
}

func (s *scenario) flap(hosts []*simHost, way string, n int, each, end time.Duration) {
	w := s.w
	on := true
	var turn func()
	turn = func() {
		for _, h := range hosts {
			if on && w.now < end {
				h.lose(way, n)
			} else {
				h.lose(way, 0)
			}
		}
		on = !on
		w.disturb()
		if w.now < end {
			w.after(each, turn)
		}
	}
	turn()
}

func (s *scenario) miss(line, format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	s.missed = append(s.missed, line+": "+text)
	return "missed: " + text + "\n"
}

// viewers returns those that run and are not paused.
func (s *scenario) viewers() []*simProc {
	return slices.DeleteFunc(s.w.running(), func(p *simProc) bool { return p.paused || p.leaving })
}

// holds says whether a state is reached in all views.
func (s *scenario) holds(what string, hosts []*simHost) bool {
	viewers := s.viewers()
	switch what {
	case "agree":
		for _, p := range viewers {
			if p.core.hash != viewers[0].core.hash || p.view() != viewers[0].view() {
				return false
			}
		}
		return true
	case "whole":
		for _, p := range viewers {
			n := 0
			for _, r := range p.core.byID {
				if r.shown && r.seen == Alive {
					if o := s.w.proc(r.ID); o == nil || o.gone {
						return false
					}
					n++
				}
			}
			if n != len(s.w.running()) {
				return false
			}
		}
		return true
	case "knows":
		for _, h := range hosts {
			if h.proc.core.Stats().Trouble == NoCause {
				return false
			}
		}
		return true
	}
	for _, h := range hosts {
		for _, p := range viewers {
			if h.last == p || h.last == nil {
				continue
			}
			i, ok := p.core.Shown(h.last.id)
			switch what {
			case "out":
				ok = !ok || i.Shown != Alive
			case "failed":
				ok = !ok || i.Shown >= Failed
			case "left":
				ok = !ok || i.Shown == Left
			case "gone":
				ok = !ok
			case "in":
				ok = ok && i.Shown == Alive
			default:
				panic("unknown state " + what)
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

func (s *scenario) bar(line string, d time.Duration, what string, hosts []*simHost) string {
	took, ok := s.w.until(d, func() bool { return s.holds(what, hosts) })
	if !ok { // how long does it take?
		var more time.Duration
		more, ok = s.w.until(min(max(10*d, 5*time.Second), 6*time.Minute), func() bool { return s.holds(what, hosts) })
		took += more
		s.bars = append(s.bars, barTime{line, took, false})
		if ok {
			return s.miss(line, "took %v", took.Round(time.Millisecond))
		}
		return s.miss(line, "not in %v", took)
	}
	s.bars = append(s.bars, barTime{line, took, true})
	return "ok\n"
}

func (s *scenario) hold(line string, d time.Duration, what string, hosts []*simHost) string {
	begin := s.w.now
	if took, broke := s.w.until(d, func() bool { return !s.holds(what, hosts) }); broke {
		s.w.run(begin + d - s.w.now)
		return s.miss(line, "not after %v", took)
	}
	return "ok\n"
}

// most says whether there were at most n changes of state in each view since mark.
func (s *scenario) most(line string, n int, but bool, hosts []*simHost) string {
	worst, where := s.worst(but, hosts)
	s.bars = append(s.bars, barTime{line, time.Duration(worst), worst <= n})
	if worst > n {
		return s.miss(line, "%d, %s", worst, where)
	}
	return "ok\n"
}

func (s *scenario) worst(but bool, hosts []*simHost) (int, string) {
	type pair struct{ viewer, about *simProc }
	counts := map[pair]int{}
	worst, where := 0, ""
	for _, ch := range s.w.history[s.marked:] {
		o := s.w.proc(ch.about)
		if ch.kind != Changed || o == nil || o == ch.viewer || slices.Contains(hosts, o.h) == but {
			continue
		}
		if slices.Contains(hosts, ch.viewer.h) {
			continue // what a faulty one sees of others is its own matter
		}
		k := pair{ch.viewer, o}
		counts[k]++
		if counts[k] > worst {
			worst, where = counts[k], ch.viewer.h.label+" of "+o.h.label
		}
	}
	return worst, where
}

func (s *scenario) never(line, state string, hosts []*simHost) string {
	for _, ch := range s.w.history[s.marked:] {
		o := s.w.proc(ch.about)
		if o != nil && slices.Contains(hosts, o.h) && o == o.h.last && ch.to.String() == state {
			return s.miss(line, "%s of %s at %v", ch.viewer.h.label, o.h.label, ch.at)
		}
	}
	return "ok\n"
}

// names writes hosts in short.
func names(hosts []*simHost) string {
	var out []string
	for i := 0; i < len(hosts); {
		j := i
		for j+1 < len(hosts) && hosts[j+1].index == hosts[j].index+1 {
			j++
		}
		switch {
		case j == i:
			out = append(out, hosts[i].label)
		case j == i+1:
			out = append(out, hosts[i].label, hosts[j].label)
		default:
			out = append(out, hosts[i].label+"-"+hosts[j].label)
		}
		i = j + 1
	}
	return strings.Join(out, " ")
}

// views writes who shows what; those that show the same are together.
func (s *scenario) views() string {
	var texts []string
	var who [][]*simHost
	for _, p := range s.viewers() {
		alive, rest := []*simHost{}, []string{}
		for _, h := range s.w.hosts { // in the order of hosts
			for _, r := range p.core.byID {
				o := s.w.proc(r.ID)
				i, ok := p.core.Shown(r.ID)
				if !ok || o.h != h {
					continue
				}
				if i.Shown == Alive && !i.Conflict && o == h.last {
					alive = append(alive, h)
					continue
				}
				text := s.w.label(r.ID) + " " + i.Shown.String()
				if o != h.last {
					text = "earlier " + text
				}
				if i.Why != NoCause {
					text += " (" + i.Why.String() + ")"
				}
				if i.Shadowed {
					text += " (shadowed)"
				} else if i.Conflict {
					text += " (holder)"
				}
				rest = append(rest, text)
			}
		}
		text := "alive " + names(alive)
		if len(rest) > 0 {
			text += ", " + strings.Join(rest, ", ")
		}
		at := slices.Index(texts, text)
		if at < 0 {
			at = len(texts)
			texts, who = append(texts, text), append(who, nil)
		}
		who[at] = append(who[at], p.h)
	}
	var b strings.Builder
	for i, text := range texts {
		fmt.Fprintf(&b, "%s: %s\n", names(who[i]), text)
	}
	return b.String()
}

func (s *scenario) stats(hosts []*simHost) string {
	var b strings.Builder
	for _, h := range hosts {
		p := h.proc
		if p == nil {
			fmt.Fprintf(&b, "%s: not running\n", h.label)
			continue
		}
		st := p.core.Stats()
		fmt.Fprintf(&b, "%s: %v", h.label, p.core.self.State)
		if st.Trouble != NoCause {
			fmt.Fprintf(&b, ", trouble %v", st.Trouble)
		}
		if st.CutOff {
			b.WriteString(", cut off")
		}
		if st.Damped > 0 {
			fmt.Fprintf(&b, ", waits")
		}
		if n := len(st.Unseen); n > 0 {
			fmt.Fprintf(&b, ", %d unseen", n)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (s *scenario) changes(hosts []*simHost) string {
	var b strings.Builder
	for _, h := range hosts {
		worst, _ := s.worst(false, []*simHost{h})
		fmt.Fprintf(&b, "%s: at most %d changes in a view\n", h.label, worst)
	}
	return b.String()
}

// holder writes who of a name is eligible, in each view.
func (s *scenario) holder(name string) string {
	var labels []string
	for _, p := range s.viewers() {
		label := "nobody"
		n := 0
		for _, r := range p.core.named(name) {
			if i, ok := p.core.Shown(r.ID); ok && i.Shown == Alive && !i.Shadowed {
				label = s.w.proc(r.ID).h.label
				n++
			}
		}
		if n > 1 {
			label = fmt.Sprint(n, " of them")
		}
		if !slices.Contains(labels, label) {
			labels = append(labels, label)
		}
	}
	return name + ": " + strings.Join(labels, ", ") + "\n"
}

// block is some commands and what they write.
type block struct {
	head     []string // comments and commands
	expected string
	checked  bool
}

func parseScenario(text string) []block {
	var out []block
	for part := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n\n") {
		head, expected, checked := strings.Cut(part+"\n", "----\n")
		out = append(out, block{strings.Split(strings.TrimRight(head, "\n"), "\n"), expected, checked})
	}
	return out
}

func commands(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == "" || l[0] == '#' })
}

// TestScenarios plays each scenario in testdata, and compares what it writes.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			blocks := parseScenario(string(text))
			if first := commands(blocks[0].head)[0]; raceDetector && len(first) > len("start 9") || strings.HasSuffix(first, "00") && !long() {
				t.Skip("large: see long_test.go")
			}
			s := newScenario(1)
			if testing.Verbose() && os.Getenv("PEER_SIM_LOG") != "" {
				s.w.verbose = t.Logf
			}
			var now strings.Builder
			for _, b := range blocks {
				var got strings.Builder
				for _, line := range commands(b.head) {
					got.WriteString(s.do(line))
				}
				now.WriteString(strings.Join(b.head, "\n") + "\n")
				if got.Len() > 0 {
					now.WriteString("----\n" + got.String())
				}
				now.WriteString("\n")
				if got.String() != b.expected && !*update {
					t.Errorf("%s\nwrites\n%swants\n%s", strings.Join(b.head, "\n"), got.String(), b.expected)
				}
			}
			for _, b := range s.w.broken {
				t.Error(b)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimRight(now.String(), "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestScenarioFigures plays the scenarios with many seeds, and writes what each of
// their bars took.
func TestScenarioFigures(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("PEER_SIM_FIGURES"))
	if n == 0 {
		t.Skip("PEER_SIM_FIGURES is not set")
	}
	first := int(firstSeed())
	files, _ := filepath.Glob("testdata/*.txt")
	for _, file := range files {
		if !strings.Contains(file, os.Getenv("PEER_SIM_ONLY")) {
			continue
		}
		text, err := os.ReadFile(file)
		must(err)
		var lines []string
		for _, b := range parseScenario(string(text)) {
			lines = append(lines, commands(b.head)...)
		}
		var all [][]time.Duration
		var heads []string
		var missed, broken []string
		misses := 0
		for seed := first + 1; seed <= first+n; seed++ {
			s := newScenario(uint64(seed))
			if os.Getenv("PEER_SIM_LOG") != "" {
				s.w.verbose = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
			}
			for _, l := range lines {
				s.do(l)
			}
			for i, b := range s.bars {
				if i >= len(all) {
					all, heads = append(all, nil), append(heads, b.line)
				}
				all[i] = append(all[i], b.took)
			}
			for _, m := range s.missed {
				misses++
				missed = append(missed, fmt.Sprintf("  seed %d: %s", seed, m))
			}
			for _, b := range s.w.broken {
				broken = append(broken, fmt.Sprintf("  seed %d: %s", seed, b))
			}
		}
		t.Logf("%s: %d missed", filepath.Base(file), misses)
		for i, h := range heads {
			slices.Sort(all[i])
			k := all[i]
			if strings.HasPrefix(h, "most") {
				t.Logf("  %-40s p50 %d max %d", h, k[len(k)/2], k[len(k)-1])
			} else {
				t.Logf("  %-40s p50 %v max %v", h, k[len(k)/2].Round(100*time.Microsecond), k[len(k)-1].Round(100*time.Microsecond))
			}
		}
		for _, m := range missed[:min(len(missed), 12)] {
			t.Log(m)
		}
		for _, m := range broken[:min(len(broken), 12)] {
			t.Log(m)
		}
	}
}

// TestSameSeed plays a scenario twice, and wants the same run bit for bit.
func TestSameSeed(t *testing.T) {
	play := func(seed uint64) (uint64, uint64) {
		s := newScenario(seed)
		for _, l := range []string{"start 8", "run 5s", "loss n3 in 60%", "kill n2", "run 8s", "start n2", "pause n5 4s", "heal", "cut n1-n4 | n5-n8", "run 10s", "heal", "run 10s"} {
			s.do(l)
		}
		return s.w.trace, s.w.steps
	}
	a, steps := play(7)
	b, _ := play(7)
	c, _ := play(8)
	if a != b {
		t.Errorf("the same seed gives %x and then %x", a, b)
	}
	if a == c || steps < 1000 {
		t.Errorf("another seed gives %x too, after %d steps", c, steps)
	}
}
