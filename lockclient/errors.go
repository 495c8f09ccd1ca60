package lockclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// What callers act on; see also HeldError, LostError and UnavailableError.
var (
	// ErrHeld: another holds the lock, or others wait for it.
	ErrHeld = errors.New("lock is held")
	// ErrLost: the lock was held and no longer is. It is the cause of the
	// context of a lost lock, and what Release returns for one.
	ErrLost = errors.New("lock lost")
	// ErrExpired goes with ErrLost: time ran out, and nobody else has it.
	ErrExpired = errors.New("expired")
	// ErrStolen goes with ErrLost: another holds it.
	ErrStolen = errors.New("taken by another")
	// ErrForced goes with ErrLost: ForceRelease took it away.
	ErrForced = errors.New("released by force")
	// ErrReleased is the cause of the context of a lock given back.
	ErrReleased = errors.New("lock released")
	// ErrNotHeld: there is nothing to release by force.
	ErrNotHeld = errors.New("lock is not held")
	// ErrUnavailable: Redis did not do what was asked.
	ErrUnavailable = errors.New("redis unavailable")
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("lock client closed")
	// ErrBadName: no lock may be called so.
	ErrBadName = errors.New("bad lock name")
	// ErrBadTTL: no lock may live so long, or so shortly.
	ErrBadTTL = errors.New("bad time to live")
)

// HeldError says who has a lock that TryAcquire did not get, or Acquire not before
// its context's deadline.
type HeldError struct {
	Name     string
	Holder   Holder
	Position int   // in the queue when time was up, from 1; 0 after a try
	Cause    error // of the context; nil after a try
}

// Error names the holder.
func (e *HeldError) Error() string {
	s := fmt.Sprintf("lock %q is held by %s", e.Name, e.Holder)
	if e.Cause != nil {
		s += fmt.Sprintf(", with %d in line before this: %v", e.Position-1, e.Cause)
	}
	return s
}

// Unwrap returns ErrHeld, and e.Cause if there is one.
func (e *HeldError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrHeld}
	}
	return []error{ErrHeld, e.Cause}
}

// LostError says why a lock was lost. It unwraps to ErrLost and to Reason.
type LostError struct {
	Name   string
	Fence  uint64
	Reason error // ErrExpired, ErrStolen, ErrForced, an UnavailableError, or ErrClosed after Abandon
}

// Error says which lock and why.
func (e *LostError) Error() string { return fmt.Sprintf("lock %q lost: %v", e.Name, e.Reason) }

// Unwrap returns ErrLost and e.Reason.
func (e *LostError) Unwrap() []error { return []error{ErrLost, e.Reason} }

// A Cause sorts what may be wrong with a Redis.
type Cause string

// The causes of an UnavailableError.
const (
	CauseRefused    Cause = "refused"          // nothing listens there
	CauseUnknown    Cause = "unknown host"     // its name does not resolve
	CauseTimeout    Cause = "timeout"          // no answer in time
	CauseCut        Cause = "cut"              // the connection broke
	CausePassword   Cause = "password"         // wrong, or missing
	CausePermission Cause = "permission"       // the ACL user may not
	CauseReadOnly   Cause = "read-only"        // a replica, or one that lost its quorum
	CauseLoading    Cause = "loading"          // still reading its data set
	CauseMemory     Cause = "out of memory"    // maxmemory is reached
	CauseWrongType  Cause = "wrong type"       // something else uses our key
	CauseTLS        Cause = "tls"              // no agreement on encryption
	CauseClients    Cause = "too many clients" // maxclients is reached
	CauseDatabase   Cause = "database"         // it has none of this number
	CauseCommand    Cause = "unsupported"      // an old Redis, or a proxy, lacks a command
	CauseStarted    Cause = "just started"     // and what it granted before may still be held
	CauseOther      Cause = "other"
)

// UnavailableError says why Redis did not do what was asked. It unwraps to
// ErrUnavailable and Err, and never contains a password.
type UnavailableError struct {
	Addr  string // without credentials
	Cause Cause
	Fix   string // what a person can do; may be empty
	Err   error  // what the network said, or what Redis refused, in a sentence
}

// Error says what is wrong, where, and how to mend it.
func (e *UnavailableError) Error() string {
	s := fmt.Sprintf("redis %s: %s: %v", e.Addr, e.Cause, e.Err)
	if e.Fix != "" {
		s += " (" + e.Fix + ")"
	}
	return s
}

// Unwrap returns ErrUnavailable and e.Err.
func (e *UnavailableError) Unwrap() []error { return []error{ErrUnavailable, e.Err} }

// lasting reports whether waiting will not mend it: a person has to.
func (e *UnavailableError) lasting() bool {
	switch e.Cause {
	case CausePassword, CausePermission, CauseWrongType, CauseTLS, CauseDatabase, CauseCommand:
		return true
	}
	return false
}

// replied reports whether Redis itself answered, so that nothing was done.
func (e *UnavailableError) replied() bool {
	_, ok := replyIn(e.Err)
	return ok
}

// explain makes err of the Redis at addr an error that says what to do about it.
// Errors that are no fault of Redis are returned as they are.
func explain(addr string, err error) error {
	var u *UnavailableError
	if err == nil || errors.As(err, &u) || errors.Is(err, ErrClosed) {
		return err
	}
	if errors.Is(err, redis.ErrClosed) {
		return ErrClosed
	}
	u = &UnavailableError{Addr: addr, Cause: CauseOther, Err: err}
	if said, ok := replyIn(err); ok {
		u.Cause, u.Fix, u.Err = refused(err, said)
		return u
	}
	var dns *net.DNSError
	var netErr net.Error
	var handshake *handshakeError
	var quiet *quietError
	switch {
	case errors.As(err, &quiet):
		u.Cause, u.Fix = CauseStarted, "wait"
	case errors.As(err, &handshake):
		u.Cause, u.Fix = CauseTLS, "check that both sides speak TLS and trust the certificate"
	case errors.Is(err, syscall.ECONNREFUSED):
		u.Cause, u.Fix = CauseRefused, "is redis-server running there?"
	case errors.Is(err, os.ErrNotExist):
		u.Cause, u.Fix = CauseRefused, "there is no such socket"
	case errors.As(err, &dns) && dns.IsNotFound:
		u.Cause, u.Fix = CauseUnknown, "check the host in the redis url"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout),
		errors.As(err, &netErr) && netErr.Timeout():
		u.Cause, u.Fix = CauseTimeout, "check the network and the load of that host"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		u.Cause, u.Fix = CauseCut, "Redis or something between closed the connection"
	}
	return u
}

// A Holder is the process that holds a lock.
type Holder struct {
	Node    string
	PID     int
	Command string    // without arguments
	Since   time.Time // when it was granted, by the server's clock
}

// String returns the holder for a person: node, process and command.
func (h Holder) String() string {
	s := h.Node
	if s == "" {
		s = "somebody"
	}
	if h.PID != 0 {
		s += fmt.Sprintf(" (pid %d", h.PID)
		if h.Command != "" {
			s += ", " + h.Command
		}
		s += ")"
	}
	return s
}
