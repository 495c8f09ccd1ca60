package cluster

import (
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/watch"
)

// pace says when the owner ticks next. Every wake-up costs an idle process more
// than what it then does, so while all is well the owner ticks on each beat and
// half way between two, and no more. The first sign of anything else brings back
// a tick every core.TickEvery: a silence is noticed as soon as ever.
type pace struct {
	beat time.Duration // when the next beat is due
	due  time.Duration // when the next tick is
	busy time.Duration // when something last happened
}

const (
	// calmAfter is how long nothing must have happened: longer than the core repeats
	// itself about anything.
	calmAfter = 10 * time.Second
	calmTick  = core.BeatEvery / 2
	// beatSlack is how late a beat or its echo may be without a sign of anything.
	beatSlack = 100 * time.Millisecond
)

func newPace(now time.Duration) pace {
	return pace{beat: now + core.TickEvery, due: now + core.TickEvery, busy: now}
}

// beats reports whether a beat is due at now, and sets when the next one is.
// Beats that a held-up process missed are not made up for.
func (p *pace) beats(now time.Duration) bool {
	if now < p.beat {
		return false
	}
	if p.beat += core.BeatEvery; p.beat <= now {
		p.beat = now + core.BeatEvery
	}
	return true
}

// look takes in the streams as they are at now.
func (p *pace) look(now time.Duration, links []core.Link) {
	for _, l := range links {
		if now-l.Heard > core.BeatEvery+beatSlack || l.Pending > beatSlack {
			p.busy = now
			return
		}
	}
}

// next sets when the tick after the one at now is due, and returns how long that
// is from now.
func (p *pace) next(now time.Duration) time.Duration {
	wait := calmTick
	if now-p.busy < calmAfter {
		wait = core.TickEvery
	}
	p.due = min(now+wait, p.beat)
	return p.due - now
}

// hurry returns how long it is from now to the next tick if that comes too late
// for what happened since it was set, else 0.
func (p *pace) hurry(now time.Duration) time.Duration {
	if now-p.busy >= calmAfter || p.due <= now+core.TickEvery {
		return 0
	}
	p.due = now + core.TickEvery
	return core.TickEvery
}

// stirs says whether out is more than the life of a cluster in which nothing
// happens.
func stirs(out *core.Output) bool {
	return len(out.Changes)+len(out.Sends)+len(out.Dials)+len(out.Closes)+len(out.Contacts) > 0 || out.Stalled > 0
}

// readLinks returns the state of the watch streams, on the core's clock.
func (c *Cluster) readLinks() []core.Link {
	c.linksRead = c.session.Load().watch.Links(c.linksRead[:0])
	c.links = c.links[:0]
	for _, l := range c.linksRead {
		c.links = append(c.links, c.link(l))
	}
	return c.links
}

func (c *Cluster) link(l watch.Link) core.Link {
	heard := time.Duration(0)
	if !l.Heard.IsZero() {
		heard = l.Heard.Sub(c.started)
		if p := c.pulses[core.ID(l.Peer)]; p != nil {
			p.touch(heard)
		}
	}
	return core.Link{Peer: core.ID(l.Peer), Heard: heard, Pending: l.Pending, Out: l.Out}
}
