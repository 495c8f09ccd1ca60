package core

import (
	"net/netip"
	"time"
)

// ID is one start of a peer. Later starts compare greater.
type ID uint64

// State is what a record says of an instance. A greater one is worse, and wins
// within an epoch.
type State uint8

const (
	Alive     State = iota + 1 // heard from in time
	Suspect                    // out of rotation, may come back
	Failed                     // gone without a word
	Left                       // it said that it leaves
	Forgotten                  // an operator dropped it
	Replaced                   // a later start took its place, for good
)

// Cause is why an instance is not simply alive. Within one state the greater
// cause wins.
type Cause uint8

const (
	NoCause     Cause = iota
	Overdue           // its partners do not hear it
	Unreachable       // failed: SWIM's verdict; suspect: nobody can dial its address
	Crashed           // failed: its address refuses, or another instance answers there
	Stalled           // its own word: it was held up
	Lossy             // its own word: its packets are lost
	Mute              // its own word: it hears others and they do not hear it
	Deaf              // its own word: it hears nobody
)

// Rec is what travels about an instance.
type Rec struct {
	ID    ID
	Prev  ID // the instance that this one replaces, 0 if none
	Name  string
	Addr  netip.AddrPort // where it is dialled
	Epoch uint64         // raised by the instance alone
	State State
	Cause Cause
	Level uint8 // how often it was damped
	// Number is that of its newest record of tags and services.
	Number  uint64
	Age     time.Duration // for how long it has been in State
	Version string        // of its binary
	WireMin uint8         // wire versions that it speaks
	WireMax uint8
	Ext     []byte // what a later version added; it is passed on
}

// worse says whether a record with epoch, state and cause wins over one with
// those of o.
func (r *Rec) worse(o *Rec) bool {
	if r.Epoch != o.Epoch {
		return r.Epoch > o.Epoch
	}
	if r.State != o.State {
		return r.State > o.State
	}
	return r.Cause > o.Cause
}

// gone says whether an instance in state s is out of the ring.
func (s State) gone() bool { return s >= Failed }

func (s State) onRing() bool { return s == Alive || s == Suspect }

// missing says whether an instance in state s may be one to look for.
func (s State) missing() bool { return s == Suspect || s == Failed }

// ownWord says whether nobody but the instance itself can have said so.
func (r *Rec) ownWord() bool { return r.State == Suspect && r.Cause >= Stalled }
