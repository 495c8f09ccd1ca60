package cluster

import (
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/watch"
)

// One goroutine owns the core. Everything else hands it inputs through a bounded
// queue and reads what it publishes. It never calls memberlist, a callback, the
// log or the network: it hands out what the core wants sent, dialled and
// exchanged to goroutines that do.

const (
	// inputQueue bounds the inputs that wait for the owner. Whoever brings one more
	// waits: memberlist is as slow as the table then, and no slower.
	inputQueue = 4096
	// inputBatch is how many inputs are taken in before the View is published.
	inputBatch = 4096
	// stallWarning is how long this process must have been held up for a warning.
	stallWarning = time.Second
)

// input is one thing for the owner to do.
type input struct {
	in   core.Input
	many []core.Input
	do   func(*core.Core) // runs on the owner's goroutine; must not block
}

// submit hands in to the owner, and waits while its queue is full. It reports
// false when the cluster is closed.
func (c *Cluster) submit(in input) bool {
	select {
	case c.inputs <- in:
		return true
	case <-c.closing:
		return false
	}
}

func (c *Cluster) step(in core.Input) { c.submit(input{in: in}) }

// ask runs f on the owner's goroutine and waits for it. It reports false when the
// cluster is closed: then f has not run, and never will.
func (c *Cluster) ask(f func(*core.Core)) bool {
	done := make(chan struct{})
	if !c.submit(input{do: func(k *core.Core) { f(k); close(done) }}) {
		return false
	}
	select {
	case <-done:
	case <-c.ownerEnded:
		select {
		case <-done:
		default:
			return false
		}
	}
	return true
}

// now is the core's clock.
func (c *Cluster) now() time.Duration { return time.Since(c.started) }

// own runs until the cluster is closed.
func (c *Cluster) own() {
	defer close(c.ownerEnded)
	c.pace = newPace(c.now())
	tick := time.NewTimer(core.TickEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.closing:
			return
		case in := <-c.inputs:
			c.take(in)
			for n := 1; n < inputBatch; n++ {
				select {
				case in := <-c.inputs:
					c.take(in)
					continue
				default:
				}
				break
			}
			if wait := c.pace.hurry(c.now()); wait > 0 {
				tick.Reset(wait)
			}
		case <-tick.C:
			tick.Reset(c.tick(c.now()))
		case <-c.publishAt:
			c.publishAt = nil
		}
		c.publish()
	}
}

// noticeLate tells the core that this process was held up, before it takes in
// anything that came meanwhile: the silence of others in that time is its own.
func (c *Cluster) noticeLate() {
	now := c.now()
	if late := now - c.pace.due; late > core.TickEvery {
		c.pace.due = now
		c.carryOut(c.core.Step(now, core.Late{Gap: late}))
	}
}

// tick steps the core in time, beats when that is due, and returns how long it is
// to the next tick.
func (c *Cluster) tick(now time.Duration) time.Duration {
	c.noticeLate()
	if c.pace.beats(now) {
		c.session.Load().watch.Beat()
	}
	links := c.readLinks()
	c.pace.look(now, links)
	c.carryOut(c.core.Step(now, core.Tick{Links: links}))
	return c.pace.next(now)
}

func (c *Cluster) take(in input) {
	c.noticeLate()
	if in.do != nil {
		in.do(c.core)
	}
	if in.in != nil {
		c.carryOut(c.core.Step(c.now(), in.in))
	}
	for _, one := range in.many {
		c.carryOut(c.core.Step(c.now(), one))
	}
}

// carryOut does what the core wants.
func (c *Cluster) carryOut(out *core.Output) {
	if stirs(out) {
		c.pace.busy = c.now()
	}
	for _, b := range out.Heard {
		if p := c.pulses[b.Peer]; p != nil {
			p.touch(b.Age)
		}
	}
	for _, ch := range out.Changes {
		c.change(ch)
	}
	for _, s := range out.Sends {
		c.out.send(c.address(s.To), s.Gossip, c.encode(s.Msg), owner(s.Msg))
	}
	for _, d := range out.Dials {
		c.session.Load().watch.Dial(uint64(d.Peer), d.Addr, d.Probe)
	}
	for _, cl := range out.Closes {
		if cl.OnlyOut {
			c.session.Load().watch.HangOut(uint64(cl.Peer))
		} else {
			c.session.Load().watch.Hang(uint64(cl.Peer), watch.Goodbye)
		}
	}
	for _, t := range out.Contacts {
		c.contactLater(t.Addr)
	}
	for _, l := range out.Logs {
		switch l.Level {
		case core.LogWarn:
			c.logger.Warn(l.Text, l.Args...)
		case core.LogInfo:
			c.logger.Info(l.Text, l.Args...)
		default:
			c.logger.Debug(l.Text, l.Args...)
		}
	}
	if out.Stalled >= stallWarning {
		c.stalls.Add(1)
		c.stalledFor.Add(int64(out.Stalled))
		c.lastStall.Store(int64(c.now()))
		c.logger.Warn("this host or process was held up: others may have taken it out of rotation",
			"took", out.Stalled.String(), "fix", "look for a suspended machine, a starved CPU or a stopped process")
	}
}

// evidence takes in what the watch streams tell.
func (c *Cluster) evidence(e watch.Event) {
	id := core.ID(e.Peer)
	switch e.Kind {
	case watch.Up:
		c.step(core.Up{Peer: id, Out: e.Out})
	case watch.Heard:
		c.step(core.Heard{Peer: id})
	case watch.Broke:
		c.step(core.Broke{Peer: id})
	case watch.Refused:
		c.step(core.Dialled{Peer: id, Result: core.Refused})
	case watch.Failed:
		c.step(core.Dialled{Peer: id, Result: core.TimedOut})
	case watch.Answered:
		c.step(core.Dialled{Peer: id, Result: core.Answered})
	case watch.Left:
		c.step(core.SaidLeave{Peer: id})
	}
}
