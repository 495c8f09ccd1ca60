package lockclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A Handle lets another process give a hold back when the one that holds it is
// dead. It has all that this needs, credentials and private keys included: pass
// its JSON through a pipe, never as an argument, in the environment or in a
// file. Printed, it is the lock's name alone. The zero Handle is of no hold.
//
// Releasing by a Handle while the holder lives is like ForceRelease, but the
// holder is not told. A Handle cannot release the hold of anybody else: the id
// in it has 64 random bits of its client.
type Handle struct{ h *handle }

// handle is the JSON of a Handle.
type handle struct {
	URL      string        `json:"url"`
	Username string        `json:"username,omitempty"`
	Files    contents      `json:"files"`
	Prefix   string        `json:"prefix"`
	Quiet    time.Duration `json:"quiet,omitempty"`
	Name     string        `json:"name"`
	ID       string        `json:"id"`
	Value    string        `json:"value,omitempty"` // of a shared hold
	TTL      time.Duration `json:"ttl"`
}

// Handle returns a Handle of l. It is the zero one for a client that has a Dial
// or a TLS of its own, which no other process could use.
func (l *Lock) Handle() Handle { return l.c.handle(l.r, l.value) }

// Handle returns a Handle of the hold to come. Released, it takes the waiter out
// of the queue, or gives back what it was granted.
func (w Waiting) Handle() Handle {
	if w.c == nil {
		return Handle{}
	}
	return w.c.handle(w.r, "")
}

func (c *Client) handle(r *request, value string) Handle {
	cfg := &c.cfg
	if !cfg.dials || cfg.TLS != nil {
		return Handle{}
	}
	return Handle{&handle{
		URL: cfg.URL, Username: cfg.Username, Files: *cfg.files, Prefix: cfg.Prefix, Quiet: cfg.QuietAfterStart,
		Name: r.name, ID: r.id, Value: value, TTL: r.ttl,
	}}
}

// IsZero reports whether h is of no hold.
func (h Handle) IsZero() bool { return h.h == nil }

// String returns the lock's name, and nothing that is secret.
func (h Handle) String() string {
	if h.h == nil {
		return "no hold"
	}
	return fmt.Sprintf("hold of lock %q", h.h.Name)
}

// MarshalJSON returns all of h, with its secrets.
func (h Handle) MarshalJSON() ([]byte, error) { return json.Marshal(h.h) }

// UnmarshalJSON reads what MarshalJSON has written.
func (h *Handle) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &h.h) }

// Release connects to Redis, waits for dead to be closed, gives the hold back and
// calls the next waiter. It returns nil when h's hold is over, also when it was
// before. While Redis does not answer Release tries again, for the time to live
// from when dead was closed: by then the hold has expired. It ends earlier when
// ctx is done or a person has to mend something, and returns the last error.
func (h Handle) Release(ctx context.Context, dead <-chan struct{}) error {
	if h.h == nil {
		return nil
	}
	if err := h.h.release(ctx, dead); err != nil {
		return fmt.Errorf("release lock %q: %w", h.h.Name, err)
	}
	return nil
}

func (h *handle) release(ctx context.Context, dead <-chan struct{}) error {
	files := h.Files
	files.read = true
	c, err := Start(Config{
		URL: h.URL, Username: h.Username, Prefix: h.Prefix, QuietAfterStart: h.Quiet, TTL: h.TTL, files: &files,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	c.background(c.ping) // the connection stands when it is needed
	select {
	case <-dead:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, h.TTL)
	defer cancel()
	r := &request{id: h.ID, keys: lockKeys(h.Prefix, h.Name)}
	for attempt := 0; ; attempt++ {
		reply, err := c.run(ctx, c.calls, leaveScript, r.farewell(h.Value))
		if err == nil {
			err = decodeOutcome(leaveScript, reply)
		}
		switch {
		case err == nil, errors.Is(err, ErrExpired), errors.Is(err, ErrStolen):
			return nil
		case lasting(err), !c.pause(ctx, attempt):
			return err
		}
	}
}
