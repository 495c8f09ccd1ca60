//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// pollEvery is the shortest interval between two reads of an agent that
	// cannot tell of changes. It grows to one percent of the time that has
	// passed, so that reading eleven agents for a minute does not become the load.
	pollEvery = 5 * time.Millisecond
	pollMax   = 100 * time.Millisecond
	// retryEvery is for an agent that does not answer yet.
	retryEvery = 2 * time.Millisecond
)

// reached is when a condition held, counted from a given moment.
type reached struct {
	first, all time.Duration
	ok         bool // it held in all views at once before the limit
	holds      int  // in how many views it held at the end
}

// condition is something that a view may fulfil.
type condition struct {
	of    string // the one member that it is about, "" for all: less to read
	holds func(view) bool
}

// until reads the views of agents until cond holds in all of them at one time,
// or for limit.
func (l *lab) until(from time.Time, limit time.Duration, agents []*agent, cond condition) reached {
	ctx, cancel := context.WithDeadline(l.ctx, from.Add(limit))
	defer cancel()
	var (
		mu     sync.Mutex
		wg     sync.WaitGroup
		out    reached
		judged = make([]bool, len(agents))
		turned = make([]time.Duration, len(agents))
	)
	// judge books what view i says now; it reports whether the watch is over.
	judge := func(i int, holds bool) bool {
		mu.Lock()
		defer mu.Unlock()
		if out.ok || ctx.Err() != nil {
			return true
		}
		at := time.Since(from)
		if holds != judged[i] {
			judged[i], turned[i] = holds, at
			if holds {
				out.holds++
			} else {
				out.holds--
			}
		}
		if holds && out.first == 0 {
			out.first = at
		}
		if out.holds == len(agents) {
			out.all, out.ok = at, true
			cancel()
		}
		return out.ok
	}
	for i, a := range agents {
		wg.Go(func() {
			fresh := true
			for ctx.Err() == nil {
				v, err := a.viewer.view(ctx, cond.of, fresh)
				fresh = err != nil
				if judge(i, err == nil && cond.holds(v)) {
					return
				}
				pause := time.Duration(0)
				switch {
				case err != nil:
					pause = retryEvery
				case !a.viewer.waits():
					pause = min(max(pollEvery, time.Since(from)/100), pollMax)
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	wg.Wait()
	if l.job.Debug {
		l.explain(agents, judged, turned)
	}
	return out
}

// explain tells when the condition last turned true, or not, in each view.
func (l *lab) explain(agents []*agent, holds []bool, turned []time.Duration) {
	var b strings.Builder
	for i, a := range agents {
		fmt.Fprintf(&b, " %s", a.Name)
		if !holds[i] {
			b.WriteString(" not since")
		}
		fmt.Fprintf(&b, " %.1f", float64(turned[i])/float64(time.Millisecond))
	}
	l.note("in ms:%s", b.String())
}

// allAlive says that exactly these are alive, where they should be, and nobody
// is handed out twice.
func allAlive(agents ...*agent) condition {
	return condition{holds: func(v view) bool {
		n := 0
		for _, m := range v {
			if m.State == alive {
				n++
			}
		}
		if n != len(agents) {
			return false
		}
		for _, a := range agents {
			if v.state(a.Name, a.Host) != alive {
				return false
			}
		}
		return true
	}}
}

// noneAlive says that none of these is handed out.
func noneAlive(agents ...*agent) condition {
	of := ""
	if len(agents) == 1 {
		of = agents[0].Name
	}
	return condition{of, func(v view) bool {
		for _, a := range agents {
			if v.state(a.Name, a.Host) == alive {
				return false
			}
		}
		return true
	}}
}

// hasLeft says that a is shown as one that said goodbye.
func hasLeft(a *agent) condition {
	return condition{a.Name, func(v view) bool { return v.state(a.Name, a.Host) == left }}
}

// state returns the state of the member of that name and address, "" when the
// view has none. Of two, the living one counts.
func (v view) state(name, host string) string {
	s := ""
	for _, m := range v {
		if m.Name == name && m.Host == host && s != alive {
			s = m.State
		}
	}
	return s
}
