package balance

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/selector"
)

// Watch follows a service and hands out its live peers. All methods may be
// called from any goroutine; those that pick do not lock and do not talk to the
// agent. It has one goroutine, which Close ends.
type Watch struct {
	cfg    Config
	client *api.Client
	owned  bool // client is ours to close
	peers  *selector.Selector[*Peer]

	view  atomic.Pointer[View] // never nil
	first chan struct{}        // closed with the first view

	cancel  context.CancelCauseFunc
	ctx     context.Context // ends with Close
	running sync.WaitGroup
}

// Start begins to follow what cfg names. An agent that does not answer is no
// error: nobody is handed out until it does, and View says why. A mistake in
// cfg is one.
func Start(cfg Config) (*Watch, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start watch: %w", err)
	}
	w := &Watch{cfg: cfg, client: cfg.Client, first: make(chan struct{})}
	if w.client == nil {
		c, err := api.NewClient(cfg.Agent)
		if err != nil {
			return nil, fmt.Errorf("start watch: %w", err)
		}
		w.client, w.owned = c, true
	}
	w.peers = selector.New(cfg.selector())
	w.view.Store(&View{Service: cfg.Service})
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	w.running.Go(func() { w.follow(w.ctx) })
	return w, nil
}

// selector says how to read a Peer.
func (c Config) selector() selector.Config[*Peer] {
	s := selector.Config[*Peer]{
		ID:      (*Peer).name,
		Seed:    c.Seed,
		Policy:  c.Policy,
		Weight:  func(p *Peer) int { return max(p.Weight, 1) },
		Standby: (*Peer).warns,
		RTT:     func(p *Peer) time.Duration { return p.RTT },
	}
	if c.ZoneTag != "" {
		s.Home = "home"
		s.Zone = func(p *Peer) string {
			if p.home {
				return "home"
			}
			return "away"
		}
	}
	if c.Tune != nil {
		c.Tune(&s)
	}
	return s
}

// Close ends the Watch and returns when its goroutine has ended. The last view
// stays.
func (w *Watch) Close() {
	w.cancel(ErrClosed)
	w.running.Wait()
	if w.owned {
		w.client.Close()
	}
}

// View returns what is known now.
func (w *Watch) View() View { return *w.view.Load() }

// Ready waits for the first view, whoever is in it. When ctx ends first the
// error is a *NoPeersError that says what is wrong with the agent.
func (w *Watch) Ready(ctx context.Context) error {
	select {
	case <-w.first:
		return nil
	case <-ctx.Done():
		return w.nobody(fmt.Errorf("%w: %w", selector.ErrNoPeers, context.Cause(ctx)))
	case <-w.ctx.Done():
		return w.nobody(fmt.Errorf("%w: %w", selector.ErrNoPeers, ErrClosed))
	}
}

// Next takes a turn and returns the peer whose turn it is. Nobody is a
// *NoPeersError.
func (w *Watch) Next() (*Peer, error) {
	p, err := w.peers.Next()
	if err != nil {
		err = w.nobody(err)
	}
	return p, err
}

// NextFor is Next for a key, under the policy ByKey.
func (w *Watch) NextFor(key string) (*Peer, error) {
	p, err := w.peers.NextFor(key)
	if err != nil {
		err = w.nobody(err)
	}
	return p, err
}

// NextWait is Next that waits until there is somebody, or until ctx ends; then
// the error is a *NoPeersError that unwraps to the cause.
func (w *Watch) NextWait(ctx context.Context) (*Peer, error) {
	p, err := w.peers.NextWait(ctx)
	if err != nil {
		err = w.nobody(err)
	}
	return p, err
}

// Take takes a turn that counts as load of its peer until it is done.
func (w *Watch) Take(want selector.Want) (selector.Turn[*Peer], error) {
	t, err := w.peers.Take(want)
	if err != nil {
		err = w.nobody(err)
	}
	return t, err
}

// All takes a turn each time it is ranged over, and yields each peer once, in
// the order in which to try them.
func (w *Watch) All() iter.Seq[*Peer] { return w.peers.All() }

// Report tells how a request to p has gone: after a failure it is left alone for
// a while, as long as others are left.
func (w *Watch) Report(p *Peer, err error, latency time.Duration) { w.peers.Report(p, err, latency) }

// Explain tells of every peer where it stands and why, and takes no turn.
func (w *Watch) Explain(want selector.Want) []selector.Standing[*Peer] { return w.peers.Explain(want) }

// Selector is what the Watch fills, for all that it does beyond: filters, other
// policies, cursors. Its Set is the Watch's alone to call.
func (w *Watch) Selector() *selector.Selector[*Peer] { return w.peers }

// nobody says why there was no turn.
func (w *Watch) nobody(err error) error {
	v := w.view.Load()
	return &NoPeersError{Service: v.Service, Known: v.Known, Age: v.Age(), Err: err, Agent: v.Err}
}
