package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"
)

// SchemaLease names the shape of Lease.
const SchemaLease = "peer.lease/v1"

// Kinds of problems of locks, beside KindNoLock and KindRedis.
const (
	KindLockHeld      = "lock-held"       // 409: another has it; Holder says who
	KindLockLost      = "lock-lost"       // 409: the lease was good once, and no longer is
	KindNoLease       = "no-such-lease"   // 404: never heard of
	KindTooManyLeases = "too-many-leases" // 503
	KindStopping      = "stopping"        // 503: the agent is leaving
)

// LockRequest is the body of POST /v1/locks/{name} and of …/hold. Everything in
// it may be left out.
type LockRequest struct {
	TTLMS   *int64 `json:"ttl_ms,omitempty"`  // 100 to 86400000; default 15000
	WaitMS  *int64 `json:"wait_ms,omitempty"` // 0 tries once, at the most 86400000; default 0, of a hold for ever
	Command string `json:"command,omitempty"` // what others are shown, at the most 64 bytes; default the User-Agent
	PID     int    `json:"pid,omitempty"`     // as Command; default the agent's
}

// Lease answers POST /v1/locks/{name} and …/renew: the lock is held, for whoever
// knows Lease.
//
// It is valid for ElapsedMS plus ExpiresInMS, counted on the client's own clock
// from a moment before it sent the request: whatever the answer's way took, and
// whatever the wait, nobody else can have the lock by then.
type Lease struct {
	Schema      string `json:"schema"`
	Name        string `json:"name"`
	Lease       string `json:"lease"` // unguessable: who knows it may renew and release
	Fence       uint64 `json:"fence"` // rises with every grant of the lock
	TTLMS       int64  `json:"ttl_ms"`
	ExpiresInMS int64  `json:"expires_in_ms"` // when this was written
	ElapsedMS   int64  `json:"elapsed_ms"`    // since the agent got the request

	// Deadline is until when the lease is valid, by this process's monotonic
	// clock. Client sets it.
	Deadline time.Time `json:"-"`
}

// LeaseRequest is the body of POST /v1/locks/{name}/renew and of DELETE
// /v1/locks/{name}.
type LeaseRequest struct {
	Lease string `json:"lease"`
}

// Released answers DELETE /v1/locks/{name}.
type Released struct {
	Name   string      `json:"name"`
	Fence  uint64      `json:"fence"`  // of the hold that ended
	Holder *LockHolder `json:"holder"` // whom it was taken from by force, else null
}

// The types of a HoldEvent.
const (
	HoldWaiting  = "waiting"  // Position, Holder
	HoldAcquired = "acquired" // Fence, TTLMS, ExpiresInMS
	HoldHeld     = "held"     // ExpiresInMS; before half of what was told is over
	HoldLost     = "lost"     // Reason; the last one
	HoldFailed   = "failed"   // Problem; the last one, before there was an acquired
)

// HoldEvent is one line of POST /v1/locks/{name}/hold.
type HoldEvent struct {
	Type        string      `json:"type"`
	Position    int         `json:"position,omitempty"` // in the queue, from 1
	Holder      *LockHolder `json:"holder,omitempty"`
	Fence       uint64      `json:"fence,omitempty"`
	TTLMS       int64       `json:"ttl_ms,omitempty"`
	ExpiresInMS int64       `json:"expires_in_ms,omitempty"` // when this was written
	ElapsedMS   int64       `json:"elapsed_ms"`              // since the agent got the request
	Reason      string      `json:"reason,omitempty"`
	Problem     *Problem    `json:"problem,omitempty"`

	// Deadline is until when the lock is held unless another event moves it, by
	// this process's monotonic clock. Client sets it.
	Deadline time.Time `json:"-"`
}

// LockOptions says how to take a lock. Its zero value is right for most.
type LockOptions struct {
	// TTL is how long the lock outlives a holder that is gone, 100 ms to 24 h,
	// in whole milliseconds. Default 15 s.
	TTL time.Duration
	// Wait bounds the wait. Default: Acquire does not wait, Hold waits for ever.
	// A negative one means not to wait.
	Wait time.Duration
	// Command tells people what is done under the lock. Give no arguments: they
	// may be secret.
	Command string
	// PID tells them which process does it. Default: this one.
	PID int
}

func (o LockOptions) request() LockRequest {
	r := LockRequest{Command: o.Command, PID: cmp.Or(o.PID, os.Getpid())}
	if o.TTL != 0 {
		ms := o.TTL.Milliseconds()
		r.TTLMS = &ms
	}
	if o.Wait != 0 {
		ms := max(o.Wait, 0).Milliseconds()
		if o.Wait > 0 {
			ms = max(ms, 1)
		}
		r.WaitMS = &ms
	}
	return r
}

func lockPath(name string) string { return "/v1/locks/" + PathSegment(name) }

// Acquire takes the lock name through the agent, for as long as Renew is called
// in time; see Lease. When another has it, and still has it after o.Wait, the
// error is a *Problem of kind KindLockHeld. Ending ctx leaves the queue.
func (c *Client) Acquire(ctx context.Context, name string, o LockOptions) (Lease, error) {
	return c.lease(ctx, lockPath(name), o.request(), max(o.Wait, 0))
}

// Renew makes l good for its whole time to live from now on. One that is lost is
// a *Problem of kind KindLockLost. After any other error l is good until its
// Deadline, and Renew may be called again.
func (c *Client) Renew(ctx context.Context, l Lease) (Lease, error) {
	return c.lease(ctx, lockPath(l.Name)+"/renew", LeaseRequest{Lease: l.Lease}, 0)
}

func (c *Client) lease(ctx context.Context, path string, body any, wait time.Duration) (Lease, error) {
	var l Lease
	sent := time.Now()
	raw, err := c.write(ctx, http.MethodPost, path, nil, body, wait)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(raw, &l); err != nil {
		return l, c.foreign("an answer that is no JSON: " + err.Error())
	}
	l.Deadline = sent.Add(time.Duration(l.ElapsedMS+l.ExpiresInMS) * time.Millisecond)
	return l, nil
}

// Release gives the lock back and calls the next waiter. One that was lost
// before is a *Problem of kind KindLockLost; one that this lease has given back
// already is no error.
func (c *Client) Release(ctx context.Context, l Lease) error {
	_, err := c.write(ctx, http.MethodDelete, lockPath(l.Name), nil, LeaseRequest{Lease: l.Lease}, 0)
	return err
}

// ForceRelease takes the lock name from whoever holds it, tells them, and calls
// the next waiter. That nobody holds it is a *Problem of kind KindNoLock.
func (c *Client) ForceRelease(ctx context.Context, name string) (Released, error) {
	var out Released
	raw, err := c.write(ctx, http.MethodDelete, lockPath(name), url.Values{"force": {"true"}}, nil, 0)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, c.foreign("an answer that is no JSON: " + err.Error())
	}
	return out, nil
}

// write sends body, unless it is nil, as JSON.
func (c *Client) write(ctx context.Context, method, path string, query url.Values, body any, wait time.Duration) ([]byte, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	return c.do(ctx, method, path, query, raw, wait)
}
