package balance

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrClosed ends a wait for a Watch's first view when the Watch is closed.
var ErrClosed = errors.New("balance: closed")

// errSettling is why the view of a restarted agent is not believed yet.
var errSettling = errors.New("the agent has restarted and does not know everybody yet")

// NoPeersError says that there is nobody to hand out, and why. It unwraps to the
// selector's error (ErrNoPeers, ErrNoMatch, or the context's end of a wait) and
// to that of the agent.
type NoPeersError struct {
	Service string        // "" for members
	Known   int           // instances that the agent knows of, none of which is well and wanted
	Age     time.Duration // of the view; negative: there has been none
	Err     error         // why nobody was chosen
	Agent   error         // why there is no newer view; nil while the agent answers
}

// Error says who was asked for and what is known of them, in one line.
func (e *NoPeersError) Error() string {
	who := "service " + e.Service
	if e.Service == "" {
		who = "the cluster"
	}
	s := fmt.Sprintf("nobody of %s to hand out: ", who)
	switch {
	case e.Age < 0:
		s += "the agent has not answered yet"
	case e.Known == 0:
		s += "none is known"
	default:
		s += fmt.Sprintf("%d known, none of them fit", e.Known)
	}
	s += fmt.Sprintf(" (%v)", e.Err)
	if e.Agent != nil {
		if e.Age >= 0 {
			s += fmt.Sprintf("; as of %v ago", e.Age.Round(time.Millisecond))
		}
		s += ": " + e.Agent.Error()
	}
	return s
}

// Unwrap returns both causes.
func (e *NoPeersError) Unwrap() []error {
	if e.Agent == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Agent}
}

// errTryTimeout ends a try that took too long.
var errTryTimeout error = tryTimeoutError{}

type tryTimeoutError struct{}

func (tryTimeoutError) Error() string   { return "no answer within the time for one try" }
func (tryTimeoutError) Timeout() bool   { return true }
func (tryTimeoutError) Temporary() bool { return true }

// Try is one sending of a request to one peer.
type Try struct {
	Peer   *Peer
	Status int           // of an answer that counts as failure; 0 without one
	Err    error         // why there was no answer; nil with one
	Took   time.Duration // to the answer's header, or to the error

	failed bool // the answer speaks against the peer
	unsent bool // nothing of the request has reached the peer
	ours   bool // the request itself is at fault
}

// String names the peer and what came of it.

func (t Try) String() string {
	what := fmt.Sprintf("answers %d", t.Status)
	if t.Err != nil {
		what = t.Err.Error()
	}
	return fmt.Sprintf("%s (%s): %s", t.Peer.Name, t.Peer.HostPort(), what)
}

// TriedError says that a request was sent and no answer came that could be
// returned. It unwraps to the errors of all tries.
type TriedError struct {
	Service string
	Tries   []Try // one or more, of different peers
}

// Error tells what each peer said.
func (e *TriedError) Error() string {
	from := ""
	if n := len(e.Tries); n > 1 {
		from = fmt.Sprintf(" from any of %d peers", n)
	}
	said := make([]string, len(e.Tries))
	for i, t := range e.Tries {
		said[i] = t.String()
	}
	return fmt.Sprintf("service %s: no answer%s: %s", e.Service, from, strings.Join(said, "; "))
}

// Unwrap returns the error of each try that has one.
func (e *TriedError) Unwrap() []error {
	var out []error
	for _, t := range e.Tries {
		if t.Err != nil {
			out = append(out, t.Err)
		}
	}
	return out
}

// Timeout says whether the last try ended by a time-out, as net.Error does.
func (e *TriedError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Tries[len(e.Tries)-1].Err, &t) && t.Timeout()
}
