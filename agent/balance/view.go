package balance

import "time"

// View is what a Watch knows at one moment. It is never changed: a later one
// takes its place.
type View struct {
	Service string  // "" for members
	Peers   []*Peer // whom it hands out, sorted by name; not to be changed
	Known   int     // all that the agent knows of, well or not, with the tags or without

	Index    uint64    // of the agent's answer
	Instance string    // the start of the agent that the view is of, 16 hex digits
	Changed  time.Time // when the peers became as they are; zero before the first view
	// Heard is when the agent last said that the peers are so; zero if it never
	// did. While all is well that is at most Config.Wait ago.
	Heard time.Time

	// Err says why there is nothing newer: the agent is away, or has restarted
	// and does not know as much yet. It is nil while all is well.
	Err error
	// Tries counts the reads that have failed in a row.
	Tries int
}

// Age is how long ago the agent said that the peers are so; negative if it never
// has.
func (v View) Age() time.Duration {
	if v.Heard.IsZero() {
		return -1
	}
	return time.Since(v.Heard)
}
