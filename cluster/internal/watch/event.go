package watch

import (
	"fmt"
	"time"
)

// Kind says what an [Event] is evidence of.
type Kind int

// The kinds of events.
const (
	// Up: a stream stands. Out says whether this side dialled it.
	Up Kind = iota + 1
	// Heard: the peer is heard again after a second or more of silence. Ordinary
	// beats make no event; [Link.Heard] has their time.
	Heard
	// Broke: a stream ended without a goodbye. The process may be gone.
	Broke
	// Refused: the kernel at the address refuses, or another instance answers
	// there (ErrInstance). The process is gone, or something on the path says so.
	Refused
	// Failed: a dial or its handshake timed out, was reset again and again, or met
	// somebody without a key (ErrStranger) or without a version in common
	// (ErrVersion). It says little about the peer.
	Failed
	// Left: the peer said that it leaves.
	Left
	// Answered: the wanted instance answered a probe.
	Answered
)

// String returns the kind in lower case.
func (k Kind) String() string {
	names := [...]string{"", "up", "heard", "broke", "refused", "failed", "left", "answered"}
	if k < Up || int(k) >= len(names) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return names[k]
}

// Event is one piece of evidence about a peer.
//
// The events of one stream come in order. Those of two streams of one peer may
// cross: Links says which streams stand. Each dial that began ends in one of Up,
// Answered, Refused and Failed, unless Hang, HangOut, Leave or Close ended it.
type Event struct {
	Peer uint64
	Kind Kind
	Out  bool  // Up, Heard, Broke, Left: on a stream that this side dialled
	Err  error // Broke, Refused, Failed: why
}

// Link says how one peer is connected.
type Link struct {
	Peer    uint64
	Heard   time.Time     // of the last authenticated byte, on either stream
	Pending time.Duration // how long the oldest beat waits for its echo; 0 if none does
	Out, In bool          // which streams stand
}
