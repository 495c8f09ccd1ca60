package core

import (
	"net/netip"
	"time"
)

// Input is something that happened.
type Input interface{ input() }

type (
	// Tick is due every TickEvery. Links has the state of each watch stream.
	Tick struct{ Links []Link }
	// Late says that this process was held up for Gap: the silence of others in
	// that time is its own.
	Late struct{ Gap time.Duration }
	// Up says that a watch stream to or from Peer is open. Out says that this peer
	// dialled it, which proves that the address of Peer can be dialled.
	Up struct {
		Peer ID
		Out  bool
	}
	// Heard says that Peer was heard after a second of silence.
	Heard struct{ Peer ID }
	// SaidLeave says that Peer said on its stream that it leaves.
	SaidLeave struct{ Peer ID }
	// Broke says that the stream of Peer ended without a goodbye.
	Broke struct{ Peer ID }
	// Dialled says what became of a dial to Peer.
	Dialled struct {
		Peer   ID
		Result DialResult
	}
	// Swim is memberlist's opinion of an instance.
	Swim struct {
		Peer ID
		Addr netip.AddrPort
		Dead bool
	}
	// Ack is the answer of Peer to a ping.
	Ack struct {
		Peer  ID
		Hash  uint64 // of its table
		Beats []Beat
	}
	// Beats are heartbeats that came in a table exchange.
	Beats struct{ Beats []Beat }
	// VoteIn is the vote of a partner.
	VoteIn struct{ Vote Vote }
	// News is a record that was announced: a verdict, or its owner's own word.
	News struct {
		From ID // 0 if unknown
		Recs []Rec
	}
	// Table is the table of From, in an exchange.
	Table struct {
		From ID
		Recs []Rec
	}
	// Record is the tags and services of Peer, already checked. Data is handed back
	// in Info.
	Record struct {
		Peer   ID
		Number uint64
		Body   []byte
		Data   any
	}
	// Number says that Peer has a record of this number.
	Number struct {
		Peer   ID
		Number uint64
	}
	// SetRecord makes Body this peer's own record.
	SetRecord struct {
		Body []byte
		Data any
	}
	// Leave says that this peer leaves.
	Leave struct{}
	// Forget drops the departed instances of a name.
	Forget struct{ Name string }
	// Remembered are the peers of an earlier run.
	Remembered struct{ Peers []Memory }
)

// Link is the state of the watch streams to and from one partner.
type Link struct {
	Peer  ID
	Heard time.Duration // when the last byte of it came, 0 if never
	// Pending is for how long the oldest beat to it has been without its echo.
	Pending time.Duration
	Out     bool // this peer dialled one
}

// DialResult is what became of a dial.
type DialResult uint8

const (
	Answered DialResult = iota // by the instance that was wanted
	Refused                    // by the kernel, or another instance answered
	TimedOut                   // no answer, which may be the network's fault
)

// Beat is one heartbeat: the counter of an instance, and how long ago it was sent.
type Beat struct {
	Peer  ID
	Count uint64
	Age   time.Duration
}

// Memory is a peer of an earlier run.
type Memory struct {
	ID     ID
	Name   string
	Addr   netip.AddrPort
	Left   bool
	Absent time.Duration // for how long this peer ran and did not see it
}

func (Tick) input()       {}
func (Late) input()       {}
func (Up) input()         {}
func (Heard) input()      {}
func (SaidLeave) input()  {}
func (Broke) input()      {}
func (Dialled) input()    {}
func (Swim) input()       {}
func (Ack) input()        {}
func (Beats) input()      {}
func (VoteIn) input()     {}
func (News) input()       {}
func (Table) input()      {}
func (Record) input()     {}
func (Number) input()     {}
func (SetRecord) input()  {}
func (Leave) input()      {}
func (Forget) input()     {}
func (Remembered) input() {}
