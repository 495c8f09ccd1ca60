package selector

import (
	"context"
	"fmt"
)

// NextWait is Next that waits until there is somebody: for the next Set that
// names a peer that matches. When ctx ends first, the error is that of Next and
// the cause of ctx, both to be found with errors.Is.
func (s *Selector[T]) NextWait(ctx context.Context) (T, error) {
	for {
		changed := s.roster.changes()
		p, err := s.Next()
		if err == nil {
			return p, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// changes returns a channel that the next Set closes.
func (x *roster[T]) changes() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.changed == nil {
		x.changed = make(chan struct{})
	}
	return x.changed
}
