package cluster

import (
	"net/netip"
	"time"
)

// State says what this peer holds of a member.
type State string

const (
	// Alive: heard from in time.
	Alive State = "alive"
	// Suspect: overdue. Not handed out, may come back at any moment.
	Suspect State = "suspect"
	// Failed: the verdict. It is gone without a goodbye.
	Failed State = "failed"
	// Left: it said goodbye.
	Left State = "left"
)

// Cause says why a member is not simply alive.
type Cause string

const (
	// CauseNone goes with Alive.
	CauseNone Cause = ""
	// CauseOverdue goes with Suspect: most of those that watch it do not hear it.
	CauseOverdue Cause = "overdue"
	// CauseUnreachable goes with Failed: the verdict of SWIM. With Suspect it says
	// that nobody can dial the address that the member advertises.
	CauseUnreachable Cause = "unreachable"
	// CauseCrashed goes with Failed: its process is gone, by the kernel's own
	// evidence (its address answers as another instance, or refuses).
	CauseCrashed Cause = "crashed"
	// CauseStalled, CauseLossy, CauseMute and CauseDeaf go with Suspect, and are the
	// member's own word: it was held up, its packets are lost, it is not heard, it
	// hears nobody.
	CauseStalled Cause = "stalled"
	CauseLossy   Cause = "lossy"
	CauseMute    Cause = "mute"
	CauseDeaf    Cause = "deaf"
	// CauseLeft goes with Left.
	CauseLeft Cause = "left"
	// CauseConflict goes with Alive: another live instance has the same name.
	CauseConflict Cause = "conflict"
)

// Member is one peer as this peer sees it: a value, safe to keep. Its maps and
// slices are shared and must not be changed.
type Member struct {
	Name     string
	Instance Instance
	Addr     netip.AddrPort // gossip address
	Self     bool

	State State
	Cause Cause
	Since time.Time // when State began, by this peer's clock
	Flaps int       // how often it came back from Suspect or Failed since this peer first saw it

	Version  string // of its binary
	Tags     map[string]string
	Services []Service

	// Shadowed marks the later of two live instances of one name: it is shown,
	// and not eligible.
	Shadowed bool

	pulse *pulse // live; shared by all copies of this member
}

// Heartbeat returns when the newest heartbeat of m that is known here was sent,
// by this peer's monotonic clock. It moves on in copies of m that are kept.
func (m Member) Heartbeat() time.Time {
	if m.pulse == nil {
		return time.Time{}
	}
	return m.pulse.last()
}

// RTT returns the round-trip time of the last gossip ping from here to m, 0
// until there was one.
func (m Member) RTT() time.Duration {
	if m.pulse == nil {
		return 0
	}
	return time.Duration(m.pulse.rtt.Load())
}

// Eligible says whether m may be handed work: it is alive, and it is not the
// later of two live instances of one name.
func (m Member) Eligible() bool { return m.State == Alive && !m.Shadowed }

// View is one immutable picture of the cluster. Readers share it: neither the
// slice nor anything in it may be changed.
type View struct {
	// Index rises by one with every event and with nothing else, so an
	// unchanged Index means unchanged members (heartbeats and RTT apart). It
	// begins at the time of the start in milliseconds: who still has the Index of
	// an earlier start does not take a new one for it.
	Index   uint64
	Members []Member // sorted by name, then instance; self included
}

// Lookup returns the members called name: none, one, or several when live
// instances share it.
func (v *View) Lookup(name string) []Member {
	var out []Member
	for _, m := range v.Members {
		if m.Name == name {
			out = append(out, m)
		}
	}
	return out
}

// Eligible returns the members that may be handed work, sorted by name.
func (v *View) Eligible() []Member {
	out := make([]Member, 0, len(v.Members))
	for _, m := range v.Members {
		if m.Eligible() {
			out = append(out, m)
		}
	}
	return out
}

// Count returns how many members are in state s.
func (v *View) Count(s State) int {
	n := 0
	for _, m := range v.Members {
		if m.State == s {
			n++
		}
	}
	return n
}

// EventType names what happened to a member.
type EventType string

const (
	Joined   EventType = "joined"    // a member, or a new instance of one, is alive
	Updated  EventType = "updated"   // its tags, services, version or conflict changed
	Overdue  EventType = "suspect"   // it became Suspect
	Returned EventType = "alive"     // it is Alive again after Suspect or Failed
	Fell     EventType = "failed"    // it became Failed
	Departed EventType = "left"      // it became Left
	Forgot   EventType = "forgotten" // it was dropped from the table
)

// Event is one change of the table.
type Event struct {
	Seq    uint64 // the Index of the View that first shows it
	Type   EventType
	At     time.Time
	Member Member // as it is after the change
}
