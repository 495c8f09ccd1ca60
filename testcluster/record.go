package testcluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/peerhq/peer/agent/api"
)

// Seen is one event of one peer's feed.
type Seen struct {
	At    time.Time // when it came, by the world's clock
	By    string
	Event api.Event
}

func (s Seen) String() string {
	cause := ""
	if s.Event.Member != nil && s.Event.Member.Cause != "" {
		cause = ", " + s.Event.Member.Cause
	}
	return fmt.Sprintf("%s %s: %s%s: %s", s.At.UTC().Format("15:04:05.000"), s.By, s.Event.Type, cause, s.Event.Text)
}

// About says whether s is about this member or lock.
func (s Seen) About(name string) bool {
	return s.Event.Member != nil && s.Event.Member.Name == name || s.Event.Lock != nil && s.Event.Lock.Name == name
}

// recorder follows every peer's feed.
type recorder struct {
	mu   sync.Mutex
	seen []Seen
	wg   sync.WaitGroup
}

// follow records n's feed until its context is done. It returns a function that
// ends that and waits.
func (r *recorder) follow(ctx context.Context, cancel context.CancelFunc, n *Node) context.CancelFunc {
	done := make(chan struct{})
	client, name := n.client, n.Name
	r.wg.Go(func() {
		defer close(done)
		for e, err := range client.Follow(ctx, 0) {
			if err != nil {
				continue
			}
			r.mu.Lock()
			r.seen = append(r.seen, Seen{time.Now(), name, e})
			r.mu.Unlock()
		}
	})
	return func() {
		cancel()
		<-done
	}
}

func (r *recorder) wait() { r.wg.Wait() }

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d events:\n", len(r.seen))
	for i, s := range r.seen {
		if i > 400 && i < len(r.seen)-400 {
			continue
		}
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// Events returns what was seen since a moment and passes keep, in the order of
// its coming.
func (w *World) Events(since time.Time, keep func(Seen) bool) []Seen {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	var out []Seen
	for _, s := range w.record.seen {
		if !s.At.Before(since) && keep(s) {
			out = append(out, s)
		}
	}
	return out
}

// ForgetEvents drops what was seen so far.
func (w *World) ForgetEvents() {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	w.record.seen = nil
}

// Told waits until the feed of each of by has had an event of this type about
// name since a moment, at the latest after the [World.Limit] of within. It returns
// how long after that moment the last one came.
func (w *World) Told(since time.Time, by []*Node, kind, name string, within time.Duration) time.Duration {
	w.Helper()
	var last time.Time
	w.Eventually(within-time.Since(since), fmt.Sprintf("all are told that %s %s", name, kind), func() error {
		first := map[string]time.Time{}
		for _, s := range w.Events(since, func(s Seen) bool { return s.Event.Type == kind && s.About(name) }) {
			if _, ok := first[s.By]; !ok {
				first[s.By] = s.At
			}
		}
		for _, n := range by {
			at, ok := first[n.Name]
			if !ok {
				return fmt.Errorf("%s has not seen it", n.Name)
			}
			if at.After(last) {
				last = at
			}
		}
		return nil
	})
	took := last.Sub(since)
	if limit := w.Limit(within); took > limit {
		w.Errorf("all were told that %s %s after %v, want %v", name, kind, took, limit)
	}
	return took
}

// Unharmed fails the test if any peer has held any other than these overdue or
// failed since a moment. The feeds of these are not asked either: stopped or cut
// off, they may well see others go. Where time is real, one that was overdue for
// a moment only is let pass: a busy machine may have held it up alone.
func (w *World) Unharmed(since time.Time, except ...*Node) {
	w.Helper()
	harmed := w.Events(since, func(s Seen) bool {
		if s.Event.Type != "suspect" && s.Event.Type != "failed" {
			return false
		}
		return !slices.ContainsFunc(except, func(n *Node) bool { return s.About(n.Name) || s.By == n.Name })
	})
	harmed = slices.DeleteFunc(harmed, func(s Seen) bool {
		if s.Event.Type != "suspect" || s.Event.Member == nil {
			return false
		}
		back := w.Events(s.At, func(r Seen) bool {
			return r.By == s.By && r.Event.Type == "alive" && r.About(s.Event.Member.Name) && r.At.Before(s.At.Add(w.Limit(0)))
		})
		return len(back) > 0
	})
	for i, s := range harmed {
		if i == 20 {
			w.Errorf("… and %d more", len(harmed)-i)
			break
		}
		w.Errorf("nothing had happened to it: %v", s)
	}
}
