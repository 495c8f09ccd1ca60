package core

import (
	"net/netip"
	"time"
)

// Output is what the owner of a Core carries out. It and its slices are valid
// until the next Step.
type Output struct {
	Changes  []Change
	Sends    []Send
	Dials    []Dial
	Closes   []Close
	Contacts []Contact
	Heard    []Beat // heartbeats that were news; Age is when they were sent, since the start
	Logs     []Log
	Stalled  time.Duration // this peer was held up for so long; 0 if not
}

// ChangeKind is what happened to a member.
type ChangeKind uint8

const (
	Joined   ChangeKind = iota + 1 // a new instance is shown
	Updated                        // its record, address, version or conflict changed
	Changed                        // its state or cause changed
	Dropped                        // it is not shown any more, and a Forgotten event is due
	Replaces                       // it is not shown any more, because another took its place
)

// Change is one change of what is shown.
type Change struct {
	Kind ChangeKind
	Peer ID
	From State // before a Changed
	To   State
	Why  Cause
}

// Send is one message. To nil and Gossip true lets gossip carry it to all.
type Send struct {
	To     []ID
	Gossip bool
	Msg    Message
}

// Message is Vote, News, Number, Want or RecordOf.
type Message interface{ message() }

type (
	// Vote is what one partner says of a member.
	Vote struct {
		About, From ID
		Epoch       uint64
		Seq         uint64 // of From; messages may overtake one another
		Says        Evidence
		Ask         bool // the others shall answer
	}
	// Want asks an owner for its record.
	Want struct{ From, Owner ID }
	// RecordOf stands for the record of a member, which Body returns.
	RecordOf struct{ Peer ID }
)

func (Vote) message()     {}
func (News) message()     {}
func (Number) message()   {}
func (Want) message()     {}
func (RecordOf) message() {}

// Dial asks for a watch stream to Peer, or with Probe only whether it answers.
type Dial struct {
	Peer  ID
	Addr  netip.AddrPort
	Probe bool
}

// Close ends the streams of Peer with a goodbye: only the one that this peer
// dialled, or both.
type Close struct {
	Peer    ID
	OnlyOut bool
}

// Contact asks for a table exchange with Addr.
type Contact struct {
	Peer ID // 0 if unknown
	Addr netip.AddrPort
}

// Log is one line. Args are pairs.
type Log struct {
	Level LogLevel
	Text  string
	Args  []any
}

// LogLevel is how much a line matters.
type LogLevel uint8

const (
	LogDebug LogLevel = iota
	LogInfo
	LogWarn
)
