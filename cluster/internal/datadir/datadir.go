// Package datadir keeps what outlives a restart of a peer: whom it knew, and
// which of its own starts was the last.
//
// Open makes the directory, Load reads it and Save replaces what it holds. The
// package promises that a file which cannot be trusted is set aside and never
// overwritten, that it is no reason to stop (a peer without a memory still has
// its seeds), and that a power cut leaves the old file or the new one. It does
// not know what the peers are doing now, and no clock: it starts no goroutine.
//
// # Aged by observation
//
// What is remembered does not grow old by the calendar. Peer.Absent counts the
// time for which this peer ran and did not see that one. A month without power
// ages nobody, and neither does a clock that is wrong at boot.
//
// # The file
//
// members.json is one JSON object, laid out for a reader:
//
//	{
//	  "version": 2,
//	  "checksum": "xxh64:0123456789abcdef",
//	  "payload": {
//	    "self": "0123456789abcdef",
//	    "prev": "0123456789abcde0",
//	    "peers": [
//	      {"name":"a","instance":"0123456789abcdef","addr":"10.0.0.1:7946","state":"failed","absent":3600}
//	    ]
//	  }
//	}
//
// The checksum is XXH64 over the line "peer members VERSION\n" and the payload
// without white space between its tokens. Instances are 16 hexadecimal digits,
// absent is in whole seconds and missing when it is 0.
//
// Fields are only ever added, and a field keeps its meaning, so any version
// reads any other: it ignores the fields that it does not know, and a peer that
// it cannot make sense of is left out alone. Version 1 had a "last_seen" of the
// wall clock in the place of "absent" and no "prev"; its peers are read as not
// absent.
package datadir

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/cluster/internal/text"
)

const (
	// MaxPeers bounds the peers that are kept, present and absent: twice the
	// largest cluster that anybody has in mind.
	MaxPeers = 20_000
	// MaxAbsent bounds the absent among them, so that names which come and go,
	// 139 an hour with autoscaling, do not pile up for three days. Any one that
	// answers brings all the others back.
	MaxAbsent = 1_000

	maxNameBytes  = 128
	maxStateBytes = 32
	maxZoneBytes  = 64
)

// Contents is what a peer knows from one start to the next.
type Contents struct {
	Self  uint64 // the start that wrote this, 0 if there was none
	Prev  uint64 // the start before it, 0 if there was none
	Peers []Peer
}

// Peer is a member that was seen once.
type Peer struct {
	Name     string
	Instance uint64
	Addr     netip.AddrPort
	State    string        // the last one, in cluster's words; of another version perhaps unknown ones
	Absent   time.Duration // for which this peer ran and did not see it, in whole seconds when loaded
}

// Bound returns the peers that are worth keeping of the given ones, at most
// MaxPeers, of whom at most MaxAbsent are absent: the longest absent go first,
// and nobody who is present goes for somebody who is not. It leaves its
// argument as it is.
func Bound(peers []Peer) []Peer {
	out := slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return !p.valid() })
	slices.SortStableFunc(out, func(a, b Peer) int { return cmp.Compare(a.Absent, b.Absent) })
	present := slices.IndexFunc(out, func(p Peer) bool { return p.Absent > 0 })
	if present < 0 {
		present = len(out)
	}
	return out[:min(len(out), present+MaxAbsent, MaxPeers)]
}

// valid says whether p is worth keeping.
func (p Peer) valid() bool {
	ip := p.Addr.Addr()
	return validName(p.Name) && p.Instance != 0 && p.Absent >= 0 &&
		p.Addr.IsValid() && p.Addr.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		text.Unprintable(ip.Zone()) < 0 && len(ip.Zone()) <= maxZoneBytes &&
		text.Unprintable(p.State) < 0 && len(p.State) <= maxStateBytes
}

// validName says whether s can be the name of a peer, as cluster has it.
func validName(s string) bool {
	return s != "" && len(s) <= maxNameBytes && text.IsAlphanumeric(rune(s[0])) && !strings.ContainsFunc(s, func(r rune) bool {
		return !text.IsAlphanumeric(r) && r != '-' && r != '_' && r != '.'
	})
}
