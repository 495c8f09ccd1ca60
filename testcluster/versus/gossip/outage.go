//go:build linux

package main

import (
	"math/rand/v2"
	"syscall"
	"time"
)

// healLimit is how long a cluster gets to be whole again.
const healLimit = 60 * time.Second

// newAddress kills an agent and starts one of the same name at another address
// at once, under a supervisor that starts it again should it end.
func newAddress(l *lab) error {
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	i := 1 + rand.N(len(agents)-1)
	v := agents[i]
	s := v.spec
	s.Host = address(i, true)
	at := kill(v)
	a, err := l.start(s)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	supervised := make(chan error, 1)
	go func() { supervised <- l.supervise(a, done) }()
	all := append(without(agents, v), a)
	r := l.until(at, 2*healLimit, all, allAlive(all...))
	close(done)
	if err := <-supervised; err != nil {
		return err
	}
	l.reached("address", r, 2*healLimit)
	return nil
}

// supervise starts a again a second after it ends, until done is closed.
func (l *lab) supervise(a *agent, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-a.exited:
		}
		l.note("%s ended by itself and is started again", a.Name)
		if err := l.wait(time.Second); err != nil {
			return err
		}
		next, err := l.restart(a)
		if err != nil {
			return err
		}
		a = next
	}
}

// outage kills all agents and starts them again, each with nothing but what is
// in its data directory, one every pause, the last few at new addresses.
func outage(l *lab, row string, pause time.Duration, moved int) error {
	agents, err := l.whole(10, true)
	if err != nil {
		return err
	}
	if err := l.wait(2 * time.Second); err != nil { // for the files to be written
		return err
	}
	kill(agents...)
	for _, a := range agents {
		if err := a.gone(l.ctx); err != nil {
			return err
		}
	}
	if err := l.wait(time.Second); err != nil {
		return err
	}
	rand.Shuffle(len(agents), func(i, j int) { agents[i], agents[j] = agents[j], agents[i] })
	var from time.Time
	for i, a := range agents {
		s := a.spec
		s.Seed = ""
		if i < moved {
			s.Host = address(i, true)
		}
		if agents[i], err = l.start(s); err != nil {
			return err
		}
		if i == 0 || pause > 0 {
			from = agents[i].begun // of the first of those that start together, or the last
		}
		if pause > 0 && i < len(agents)-1 {
			if err := l.wait(pause); err != nil {
				return err
			}
		}
	}
	r := l.until(from, healLimit, agents, allAlive(agents...))
	l.reached(row, r, healLimit)
	if !r.ok {
		l.note("islands: %v", l.sizes(agents))
	}
	return nil
}

// sizes returns how many each agent sees alive.
func (l *lab) sizes(agents []*agent) []int {
	var out []int
	for _, a := range agents {
		v, err := a.viewer.view(l.ctx, "", true)
		n := 0
		for _, m := range v {
			if m.State == alive {
				n++
			}
		}
		if err != nil {
			n = -1
		}
		out = append(out, n)
	}
	return out
}

// seedDown has the seed, which has neither a join flag nor a data directory,
// away for a while.
func seedDown(l *lab) error {
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	kill(agents[0])
	if err := l.wait(l.job.Down); err != nil {
		return err
	}
	if agents[0], err = l.restart(agents[0]); err != nil {
		return err
	}
	l.reached("seed", l.until(agents[0].begun, 2*healLimit, agents, allAlive(agents...)), 2*healLimit)
	return nil
}

// lone kills or stops all but one of n.
func lone(l *lab, row string, n int, killed bool) error {
	const limit = 2 * healLimit
	agents, err := l.whole(n, false)
	if err != nil {
		return err
	}
	v := victims(agents, 1)
	rest := without(agents, v...)
	at := time.Now()
	for _, a := range rest {
		if killed {
			a.signal(syscall.SIGKILL)
		} else {
			a.signal(syscall.SIGSTOP)
		}
	}
	l.reached(row, l.until(at, limit, v, noneAlive(rest...)), limit)
	return nil
}

// cable cuts one of ten hosts off, and mends it when nobody hands it out.
func cable(l *lab) error {
	specs, err := l.hostSpecs(10)
	if err != nil {
		return err
	}
	agents, err := l.wholeOf(specs, false)
	if err != nil {
		return err
	}
	for range l.job.Rounds {
		v := victims(agents, 1)
		rest := without(agents, v...)
		at := time.Now()
		if err := l.cut(v, rest); err != nil {
			return err
		}
		l.reached("cable", l.until(at, detectLimit, rest, noneAlive(v...)), detectLimit)
		if err := l.mend(); err != nil {
			return err
		}
		if err := l.settle(agents); err != nil {
			return err
		}
	}
	return nil
}

// partition keeps two halves of six apart.
func partition(l *lab) error {
	specs, err := l.hostSpecs(6)
	if err != nil {
		return err
	}
	agents, err := l.wholeOf(specs, false)
	if err != nil {
		return err
	}
	if err := l.cut(agents[:3], agents[3:]); err != nil {
		return err
	}
	if err := l.wait(l.job.Cut); err != nil {
		return err
	}
	if s := l.sizes(agents); len(s) != 6 || max(s[0], s[1], s[2], s[3], s[4], s[5]) != 3 {
		l.note("the halves are not apart after %v: %v", l.job.Cut, s)
	}
	at := time.Now()
	if err := l.mend(); err != nil {
		return err
	}
	r := l.until(at, 2*healLimit, agents, allAlive(agents...))
	l.reached("heal", r, 2*healLimit)
	return nil
}
