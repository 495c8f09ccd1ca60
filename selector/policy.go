package selector

import "fmt"

// Policy says by what rule a selector chooses among the peers that are fit.
type Policy int

const (
	// RoundRobin gives each peer as many turns as any other. Weights are ignored.
	RoundRobin Policy = iota
	// Weighted gives turns in proportion to [Config].Weight, evenly spaced: a
	// peer with twice the weight comes twice as often, not twice in a row.
	Weighted
	// LeastLoaded draws two peers by weight and takes the one with fewer turns
	// in hand for its weight. It knows of the turns that [Selector.Take] gave
	// and [Turn.Done] has not ended; without them it draws one at random.
	LeastLoaded
	// Random draws one peer by weight.
	Random
	// ByKey finds the peer that a key belongs to; see [Selector.NextFor]. With
	// zones, keys belong to peers at home while there are enough of them. Without
	// a key it takes turns.
	ByKey
	// Nearest takes turns among the peers with the shortest round trip: those
	// within a quarter of the shortest, or 250 µs.
	Nearest
)

var policies = [...]string{"round_robin", "weighted", "least_loaded", "random", "by_key", "nearest"}

// String returns the policy's name: round_robin, weighted, least_loaded,
// random, by_key, nearest.
func (p Policy) String() string {
	if p < 0 || int(p) >= len(policies) {
		return fmt.Sprintf("Policy(%d)", int(p))
	}
	return policies[p]
}

// ParsePolicy is the inverse of String.
func ParsePolicy(name string) (Policy, error) {
	for p, s := range policies {
		if s == name {
			return Policy(p), nil
		}
	}
	return 0, fmt.Errorf("unknown policy %q: want one of %q", name, policies)
}

// SelfRule says what becomes of the peer that is this client itself.
type SelfRule int

const (
	// SelfIncluded: it is a peer like any other.
	SelfIncluded SelfRule = iota
	// SelfLast: it is handed out when there is nobody else, as last resort.
	SelfLast
	// SelfNever: it is never handed out.
	SelfNever
)

// Tier says how fit a peer is. As long as there is somebody in a tier, nobody in
// a later one is handed out, unless the caller excludes all of it.
type Tier int

const (
	// Live: nothing speaks against it.
	Live Tier = iota
	// Cooling: a request to it failed lately; see [Selector.Report].
	Cooling
	// LastResort: it stands by, or it is this client itself under SelfLast.
	LastResort
)

// String returns live, cooling or last_resort.
func (t Tier) String() string {
	switch t {
	case Live:
		return "live"
	case Cooling:
		return "cooling"
	case LastResort:
		return "last_resort"
	}
	return fmt.Sprintf("Tier(%d)", int(t))
}
