package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// UnreachableError says that no agent answers at Addr, or that what answers is
// none. Its text names the way to mend it.
type UnreachableError struct {
	Addr string
	Err  error
}

// Error says what is wrong in one line, and what to do about it.
func (e *UnreachableError) Error() string {
	const elsewhere = "set --addr / PEER_HTTP_ADDR"
	const start = "start one with `peer agent` or `peer dev`, or " + elsewhere
	var ne net.Error
	var foreign *foreignError
	switch {
	case errors.As(e.Err, &foreign):
		return fmt.Sprintf("what answers at %s is no peer agent (%v); %s", e.Addr, foreign, elsewhere)
	case errors.Is(e.Err, fs.ErrPermission):
		return fmt.Sprintf("not allowed to open %s; run as a user of the socket's group, or %s", e.Addr, elsewhere)
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no agent answers at %s (connection refused); %s", e.Addr, start)
	case errors.Is(e.Err, fs.ErrNotExist):
		return fmt.Sprintf("no agent answers at %s (no such socket); %s", e.Addr, start)
	case errors.Is(e.Err, os.ErrDeadlineExceeded), errors.As(e.Err, &ne) && ne.Timeout():
		return fmt.Sprintf("no agent answers at %s (timed out); %s", e.Addr, start)
	}
	return fmt.Sprintf("no agent answers at %s (%v); %s", e.Addr, e.Err, start)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// foreignError is an answer that no agent gives.
type foreignError struct{ what string }

func (e *foreignError) Error() string { return e.what }

// errTimeout is the cause of a request's own time-out, as against the caller's.
var errTimeout = fmt.Errorf("request: %w", os.ErrDeadlineExceeded)
