//go:build linux

package main

import (
	"fmt"
	"syscall"
	"time"
)

// detectLimit is how long a death may go unseen.
const detectLimit = 60 * time.Second

// starts takes the time from the start of a lone agent until its API answers.
func starts(l *lab) error {
	for i := range l.job.Rounds {
		a, err := l.start(spec{Name: agentName(i), Host: address(i, false)})
		if err != nil {
			return err
		}
		for {
			if _, err := a.viewer.view(l.ctx, "", true); err == nil {
				break
			}
			if !a.running() {
				return fmt.Errorf("%s ended at once, see %s", a.Name, a.logFile)
			}
			if err := l.wait(time.Millisecond / 2); err != nil {
				return err
			}
		}
		l.took("start", time.Since(a.begun))
		kill(a)
		if err := a.gone(l.ctx); err != nil {
			return err
		}
	}
	return nil
}

// life is what happens to a cluster of ten on any day.
func life(l *lab) error {
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	for i := range l.job.Rounds {
		for _, step := range []func(*lab, []*agent) ([]*agent, error){
			killOne, stopOne,
			func(l *lab, agents []*agent) ([]*agent, error) { return agents, joinAndLeave(l, agents, 10+i) },
		} {
			if agents, err = step(l, agents); err != nil {
				return err
			}
			if err := l.settle(agents); err != nil {
				return err
			}
		}
	}
	return nil
}

// killOne kills an agent and starts it anew; it returns those that run then.
func killOne(l *lab, agents []*agent) ([]*agent, error) {
	v := victims(agents, 1)
	rest := without(agents, v...)
	r := l.until(kill(v...), detectLimit, rest, noneAlive(v...))
	if r.ok {
		l.took("kill-first", r.first)
	}
	l.reached("kill", r, detectLimit)
	agents, from, err := l.revive(agents, v)
	if err != nil {
		return nil, err
	}
	l.reached("restart", l.until(from, detectLimit, agents, allAlive(agents...)), detectLimit)
	return agents, nil
}

// revive starts anew who was killed, a second later; it returns all that run
// then, and when the first of them began.
func (l *lab) revive(agents, killed []*agent) ([]*agent, time.Time, error) {
	if err := l.wait(time.Second); err != nil {
		return nil, time.Time{}, err
	}
	agents = without(agents, killed...)
	var from time.Time
	for _, v := range killed {
		a, err := l.restart(v)
		if err != nil {
			return nil, from, err
		}
		if from.IsZero() {
			from = a.begun
		}
		agents = append(agents, a)
	}
	return agents, from, nil
}

// stopOne stops an agent until nobody hands it out, and lets it go on.
func stopOne(l *lab, agents []*agent) ([]*agent, error) {
	v := victims(agents, 1)[0]
	at := time.Now()
	v.signal(syscall.SIGSTOP)
	l.reached("stop", l.until(at, detectLimit, without(agents, v), noneAlive(v)), detectLimit)
	at = time.Now()
	v.signal(syscall.SIGCONT)
	l.reached("cont", l.until(at, detectLimit, agents, allAlive(agents...)), detectLimit)
	return agents, nil
}

// joinAndLeave has one more agent join, and leave.
func joinAndLeave(l *lab, agents []*agent, number int) error {
	a, err := l.start(spec{Name: agentName(number), Host: address(number, false), Seed: agents[0].Host})
	if err != nil {
		return err
	}
	all := append(without(agents), a)
	l.reached("join", l.until(a.begun, detectLimit, all, allAlive(all...)), detectLimit)
	if err := l.settle(all); err != nil {
		return err
	}
	at := time.Now()
	gone := make(chan time.Duration, 1)
	go func() {
		<-a.exited
		gone <- time.Since(at)
	}()
	a.signal(syscall.SIGINT)
	l.reached("leave", l.until(at, detectLimit, agents, hasLeft(a)), detectLimit)
	if err := a.gone(l.ctx); err != nil {
		return err
	}
	l.took("exit", <-gone)
	return nil
}

// crowd kills one of thirty.
func crowd(l *lab) error {
	return l.killing("kill30", 30, 1)
}

// three kills three of ten in one instant.
func three(l *lab) error {
	return l.killing("kill3", 10, 3)
}

// killing kills k of n, again and again.
func (l *lab) killing(row string, n, k int) error {
	agents, err := l.whole(n, false)
	if err != nil {
		return err
	}
	for range l.job.Rounds {
		v := victims(agents, k)
		l.reached(row, l.until(kill(v...), detectLimit, without(agents, v...), noneAlive(v...)), detectLimit)
		if agents, _, err = l.revive(agents, v); err != nil {
			return err
		}
		if err := l.settle(agents); err != nil {
			return err
		}
	}
	return nil
}

// pauses stops an agent for a time that a busy host may well take, and counts
// the tries after which anybody calls anybody failed.
func pauses(l *lab) error {
	const quiet = 7 * time.Second // a verdict that is under way comes by then
	agents, err := l.whole(10, false)
	if err != nil {
		return err
	}
	for range l.job.Rounds {
		for _, p := range []struct {
			row string
			d   time.Duration
		}{{"pause1.5", 1500 * time.Millisecond}, {"pause3", 3 * time.Second}, {"pause4.5", 4500 * time.Millisecond}} {
			before, err := l.verdicts()
			if err != nil {
				return err
			}
			v := victims(agents, 1)[0]
			v.signal(syscall.SIGSTOP)
			err = l.wait(p.d)
			v.signal(syscall.SIGCONT)
			if err != nil {
				return err
			}
			if err := l.wait(quiet); err != nil {
				return err
			}
			if err := l.settle(agents); err != nil {
				return err
			}
			after, err := l.verdicts()
			if err != nil {
				return err
			}
			s := sample{Row: p.row}
			if after > before {
				s.Value = 1
				l.note("%d verdicts of failed after a pause of %v of %s", after-before, p.d, v.Name)
			}
			l.report(s)
		}
	}
	return nil
}
