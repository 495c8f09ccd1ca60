package selector

import (
	"errors"
	"fmt"
)

var (
	// ErrNoPeers: the last Set was empty, or there was none yet.
	ErrNoPeers = errors.New("selector: no peers")
	// ErrNoMatch: there are peers, but none that matches. Errors that say so are
	// of type *NoMatchError.
	ErrNoMatch = errors.New("selector: no peer matches")
)

// NoMatchError counts why nobody was left. It unwraps to ErrNoMatch.
type NoMatchError struct {
	Peers    int // named by the last Set
	Matching int // of these, who passes the filter and the rule for self: all excluded by the caller
}

func (e *NoMatchError) Error() string {
	if e.Matching > 0 {
		return fmt.Sprintf("%v: %d of %d would, and all of them are excluded", ErrNoMatch, e.Matching, e.Peers)
	}
	return fmt.Sprintf("%v: none of %d", ErrNoMatch, e.Peers)
}

func (e *NoMatchError) Unwrap() error { return ErrNoMatch }

// none says why r has nobody to hand out.
func (r *ring[T]) none() error {
	if r.known == 0 {
		return ErrNoPeers
	}
	return &NoMatchError{Peers: r.known, Matching: len(r.peers)}
}
