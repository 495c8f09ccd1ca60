package cluster

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/peerhq/peer/cluster/internal/core"
)

// Warning is something an operator should know, with the way to mend it.
type Warning struct {
	Code string // stable
	Text string
	Fix  string
}

// Remembered is a peer of an earlier run that was not seen since this start.
type Remembered struct {
	Name     string
	Instance Instance
	Addr     netip.AddrPort
	Left     bool          // it had said that it leaves
	Absent   time.Duration // for how long this peer ran and did not see it
}

// Stats are the figures of this package that are shown anywhere.
type Stats struct {
	Label          string
	Encrypted      bool
	KeyFingerprint string // of the key that encrypts; "" without one
	HealthScore    int    // memberlist's local health, 0 is best
	HeartbeatLimit time.Duration
	HeartbeatMax   time.Duration // the oldest among the alive
	Joined         bool          // a table was exchanged with another peer
	CutOff         bool          // no partner answers: it is this peer that is cut off, or the last one
	UDPBlocked     bool          // peers answer by TCP and none by UDP
	Seeds          []SeedStat
	Warnings       []Warning

	Suspicions   uint64        // how often a member left rotation in this peer's view
	Flaps        uint64        // how often one came back
	Stalls       uint64        // how often this process was held up for a second or more
	StalledFor   time.Duration // altogether
	LogDropped   uint64        // lines that nobody took in time
	Damped       time.Duration // for how long this peer stays out of rotation still, after a relapse
	Trouble      Cause         // what is wrong with this peer; CauseNone if nothing is
	Unseen       []Remembered  // members of an earlier run, not seen since this start
	TableEntries int           // instances known, the departed included
}

const (
	// udpSilence is how long no ping by UDP may be answered while TCP works: many
	// probes, of which there is one a second.
	udpSilence = 15 * time.Second
	// stallShown is for how long a stall is a warning.
	stallShown = 5 * time.Minute
)

// Stats returns the figures as they are now.
func (c *Cluster) Stats() Stats {
	v := c.View()
	held := c.keys.Status()
	s := Stats{
		Label: c.cfg.Label, Encrypted: held.Encrypted, KeyFingerprint: held.Primary,
		HealthScore: c.session.Load().ml.GetHealthScore(), HeartbeatLimit: heartbeatLimit(len(v.Members)),
		Seeds:  c.seeds.stats(),
		Stalls: uint64(c.stalls.Load()), StalledFor: time.Duration(c.stalledFor.Load()), LogDropped: c.lines.dropped.Load(),
	}
	now := time.Now()
	for _, m := range v.Members {
		if m.State == Alive && !m.Self {
			s.HeartbeatMax = max(s.HeartbeatMax, now.Sub(m.Heartbeat()))
		}
	}
	var k core.Stats
	heard := false
	c.ask(func(o *core.Core) { k, heard = o.Stats(), o.HearsAny() })
	s.Joined = c.joined.Load() || k.Joined
	s.CutOff, s.Suspicions, s.Flaps, s.Damped = k.CutOff, k.Suspicions, k.Flaps, k.Damped
	s.Trouble, s.TableEntries = Cause(k.Trouble.String()), k.Known
	for _, m := range k.Unseen {
		s.Unseen = append(s.Unseen, Remembered{Name: m.Name, Instance: Instance(m.ID), Addr: m.Addr, Left: m.Left, Absent: m.Absent})
	}
	at := c.now()
	s.UDPBlocked = heard && at > udpSilence && at-time.Duration(c.acked.Load()) > udpSilence
	c.mu.Lock()
	s.Warnings = append(s.Warnings, c.warnings...)
	saveErr := c.saveErr
	c.mu.Unlock()
	s.Warnings = append(s.Warnings, c.keyWarnings(held)...)
	s.Warnings = append(s.Warnings, c.ownWarnings(s, k)...)
	if saveErr != nil {
		s.Warnings = append(s.Warnings, Warning{
			Code: "data_dir", Text: "members are not kept: " + saveErr.Error(),
			Fix: "make room in " + c.cfg.DataDir + " and let this user write there",
		})
	}
	return s
}

// ownWarnings says what is wrong with this peer itself.
func (c *Cluster) ownWarnings(s Stats, k core.Stats) (out []Warning) {
	number := c.advertised().Port()
	if s.UDPBlocked {
		out = append(out, Warning{
			Code: "udp_blocked", Text: "other peers answer by TCP but none by UDP: gossip is slow and its verdicts are late",
			Fix: fmt.Sprintf("let UDP through to and from port %d, as TCP is", number),
		})
	}
	wait := ""
	if k.Damped > time.Second {
		wait = fmt.Sprintf("; it comes back when all is well for %s", k.Damped.Round(time.Second))
	}
	switch k.Trouble {
	case core.Unreachable:
		out = append(out, Warning{
			Code: "address_unreachable", Text: fmt.Sprintf("other peers cannot dial this peer at %s, which it advertises", c.advertised()),
			Fix: fmt.Sprintf("let TCP and UDP through to port %d, or give --advertise the address at which others reach this host", number),
		})
	case core.Deaf:
		out = append(out, Warning{
			Code: "cut_off", Text: "no other peer is heard: this peer is cut off, or the last one", Fix: "check this host's network",
		})
	case core.Mute:
		out = append(out, Warning{
			Code: "not_heard", Text: "most of those that watch this peer do not hear it, though it hears them" + wait,
			Fix: "look for packets that are lost on their way out of this host",
		})
	case core.Lossy:
		out = append(out, Warning{
			Code: "packets_lost", Text: "most of what this peer exchanges with those that watch it is lost or late" + wait,
			Fix: "look for packets that are lost on this host's network",
		})
	case core.Stalled, core.Overdue:
		out = append(out, Warning{
			Code: "out_of_rotation", Text: "others took this peer out of rotation, again" + wait,
			Fix: "look for a suspended machine, a starved CPU or a network that comes and goes",
		})
	}
	if at := time.Duration(c.lastStall.Load()); at > 0 && c.now()-at < stallShown {
		out = append(out, Warning{
			Code: "stalled", Text: fmt.Sprintf("this host or process was held up %d times, for %s in all", s.Stalls, s.StalledFor.Round(100*time.Millisecond)),
			Fix: "look for a suspended machine, a starved CPU or a stopped process",
		})
	}
	return out
}
