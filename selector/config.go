package selector

import "time"

// Config says how to read a peer and how to treat it. ID is required; the zero
// value of everything else means its default. The functions are called by Set
// and must be quick, side-effect free and no callers of the selector.
type Config[T any] struct {
	// ID names a peer. Two values with one ID are the same peer: it keeps its
	// place when other values of it change.
	ID func(T) string

	// Seed is this client's name. The rotation is ordered by it, so that clients
	// with different seeds go round in different orders, and one that comes back
	// with the same seed and the same peers goes round as before. Default: drawn
	// at random.
	Seed string

	// Policy chooses among the peers that are fit. Default: RoundRobin.
	Policy Policy

	// Weight is a peer's share of the turns, relative to that of the others. A
	// peer with less than 1 stands by. Ratios beyond some thousands are cut:
	// everybody comes at least once in a period. Default: 1 for all.
	Weight func(T) int

	// Standby tells of a peer that it is handed out only as last resort.
	// Default: nobody.
	Standby func(T) bool

	// RTT is a peer's round trip as of this Set, 0 if unknown, for Nearest. One
	// that is unknown goes by the latency reported of it, and is farthest without
	// reports. Default: by reports alone, looked at each second; a peer without
	// any takes turns with the nearest, so that there be some.
	RTT func(T) time.Duration

	// Zone is where a peer is and Home is where this client is: peers at home go
	// first. Default: all peers are at home.
	Zone func(T) string
	Home string
	// HomeEnough is how many live peers at home carry its load alone. With fewer
	// the missing part of the turns goes to the other zones: with 2 of 3, one
	// turn in three. Default: 70 % of the peers at home, those that cool down or
	// stand by included.
	HomeEnough int

	// Self is the ID of the peer that is this client itself, and SelfRule says
	// whether it is handed out. Default: like any other.
	Self     string
	SelfRule SelfRule

	// Cooldown is how long a peer is left alone after a failed request. It
	// doubles with each failure in a row, up to 32 times as long, and ends with a
	// success. Negative: reports of failures change nothing. Default: 1 s.
	Cooldown time.Duration
	// MaxCooling is the share of all peers that may cool down at one time: when
	// everybody seems to fail, the fault is likely here. Rounded down: by default
	// a single peer never cools down. Negative: none. Default: 0.5.
	MaxCooling float64

	// SlowStart is how long a peer that joins takes to its full share, in ten
	// steps. Those of the first Set are not slowed, and keys are not. Default: 0,
	// at once.
	SlowStart time.Duration
}

func (c Config[T]) withDefaults() Config[T] {
	if c.Cooldown == 0 {
		c.Cooldown = time.Second
	}
	if c.MaxCooling == 0 {
		c.MaxCooling = 0.5
	}
	c.MaxCooling = min(max(c.MaxCooling, 0), 1)
	return c
}
