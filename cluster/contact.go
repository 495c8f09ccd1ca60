package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerhq/peer/cluster/internal/address"
)

// Tables are exchanged with seeds, which are resolved anew each time for as long
// as the peer lives, and with those that the core names. A contact has come about
// when a table was exchanged with somebody else: a seed that leads back to this
// peer, or to nobody, has not answered.

const (
	maxContacts  = 16 // at once
	seedFirst    = 250 * time.Millisecond
	seedMost     = 2 * time.Second  // between two tries of a seed that does not answer
	seedRecheck  = 30 * time.Second // of one that did: it may stand for others by then
	resolveFor   = 3 * time.Second
	seedsAtOnce  = 16
	selfBackSeed = "it leads back to this peer itself: give the address of another one"
)

var (
	errClosing = errors.New("this peer is leaving")
	errSelf    = errors.New(selfBackSeed)
)

// SeedStat tells how one configured seed does.
type SeedStat struct {
	Addr   string
	LastOK time.Time // when another peer last answered there; zero if never
	Err    error     // of the last attempt
}

// seedList keeps the configured seeds.
type seedList struct {
	wake chan struct{} // the table changed

	mu   sync.Mutex
	list []*seedState
}

type seedState struct {
	seed    address.Seed
	tried   time.Time
	next    time.Time
	backoff time.Duration
	busy    bool
	lastOK  time.Time
	lastErr error
}

func newSeedList(seeds []address.Seed) *seedList {
	l := &seedList{wake: make(chan struct{}, 1)}
	for _, s := range seeds {
		l.list = append(l.list, &seedState{seed: s})
	}
	return l
}

func (l *seedList) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *seedList) stats() (out []SeedStat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		out = append(out, SeedStat{Addr: s.seed.String(), LastOK: s.lastOK, Err: s.lastErr})
	}
	return out
}

// followSeeds runs until the cluster is closed or leaves.
func (c *Cluster) followSeeds() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.leaving:
			return
		case <-c.seeds.wake:
		case <-timer.C:
		}
		timer.Reset(c.seedsDue(time.Now()))
	}
}

// seedsDue tries the seeds that are due and returns how long until the next is.
func (c *Cluster) seedsDue(now time.Time) time.Duration {
	alone := c.alone()
	l := c.seeds
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := time.Minute
	for _, s := range l.list {
		if s.busy {
			continue
		}
		if again := s.tried.Add(seedMost); alone && s.next.After(again) {
			s.next = again // it did answer, but nobody is left
		}
		if d := s.next.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		s.busy = true
		c.spawn(func() {
			err := c.trySeed(s.seed)
			c.seedTried(s, err)
			l.kick()
		})
	}
	return wait
}

func (c *Cluster) seedTried(s *seedState, err error) {
	l := c.seeds
	l.mu.Lock()
	now := time.Now()
	news := s.tried.IsZero() || !address.SameFailure(s.lastErr, err) // one line when something is new
	s.busy, s.tried, s.lastErr = false, now, err
	if err == nil {
		s.backoff, s.lastOK, s.next = 0, c.cfg.Now(), now.Add(jitter(seedRecheck))
	} else {
		s.backoff = min(max(2*s.backoff, seedFirst), seedMost)
		s.next = now.Add(jitter(s.backoff))
	}
	l.mu.Unlock()
	switch {
	case !news || errors.Is(err, errClosing):
	case err == nil:
		c.logger.Info("seed answered", "seed", s.seed.String())
	default:
		c.logger.Warn("seed does not answer, trying on", "seed", s.seed.String(), "err", err)
	}
}

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// trySeed makes sure that everybody at a seed's addresses is in one cluster with
// this peer.
func (c *Cluster) trySeed(s address.Seed) error {
	ctx, cancel := context.WithTimeout(c.port.Context(), resolveFor)
	defer cancel()
	addrs, err := s.Resolve(ctx, c.cfg.Resolver)
	if err != nil {
		return err
	}
	return c.contactAll(addrs)
}

// contactAll exchanges tables with everybody at addrs who is not a live member
// already. It fails when nobody but this peer itself is there.
func (c *Cluster) contactAll(addrs []netip.AddrPort) error {
	errs := make([]error, len(addrs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, seedsAtOnce)
	for i, a := range addrs {
		switch {
		case c.isSelf(a):
			errs[i] = errSelf
		case !c.isLive(a):
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				errs[i] = c.exchange(a)
			})
		}
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	if others := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, errSelf) }); len(others) > 0 {
		errs = others
	}
	return address.Several("addresses, none answers", errs)
}

// alone says whether this peer knows no other that lives.
func (c *Cluster) alone() bool {
	for _, m := range c.View().Members {
		if !m.Self && m.State == Alive {
			return false
		}
	}
	return true
}

// isLive says whether addr is that of a member in rotation.
func (c *Cluster) isLive(addr netip.AddrPort) bool {
	return slices.ContainsFunc(c.View().Members, func(m Member) bool {
		return m.Addr == addr && !m.Self && (m.State == Alive || m.State == Suspect)
	})
}

func (c *Cluster) isSelf(addr netip.AddrPort) bool {
	if addr == c.advertised() {
		return true
	}
	bound := c.port.Addr()
	return addr.Port() == bound.Port() && (addr.Addr() == bound.Addr().Unmap() ||
		bound.Addr().IsUnspecified() && addr.Addr().IsLoopback())
}

// contactLater exchanges tables with the peer at addr, if not too many are at it.
// The core asks again for whoever it still misses.
func (c *Cluster) contactLater(addr netip.AddrPort) {
	c.mu.Lock()
	_, busy := c.contacting[addr]
	if busy || len(c.contacting) >= maxContacts || c.isSelf(addr) {
		c.mu.Unlock()
		return
	}
	c.contacting[addr] = struct{}{}
	c.mu.Unlock()
	done := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.contacting, addr)
	}
	if !c.spawn(func() {
		defer done()
		if err := c.exchange(addr); err != nil {
			c.logger.Debug("exchange tables", "addr", addr.String(), "err", err)
		}
	}) {
		done()
	}
}

// exchange is one push/pull, which memberlist calls a join.
func (c *Cluster) exchange(addr netip.AddrPort) error {
	if c.isLeaving() {
		return errClosing
	}
	if own := c.advertised(); own.Addr().IsLoopback() && !addr.Addr().IsLoopback() {
		return fmt.Errorf("this peer advertises %s, which reaches nobody at %s: give --advertise an address of this host that others reach", own.Addr(), addr)
	}
	c.exchanges.Add(1)
	defer c.exchanges.Add(-1)
	a := c.port.Attempt()
	defer a.Done()
	if _, err := c.session.Load().ml.Join([]string{a.Name + "/" + addr.String()}); err != nil {
		return a.Explain(addr, err)
	}
	if stateOwner(a.State()) == c.instance() {
		return errSelf
	}
	return nil
}

// JoinOutcome is what came of one address given to Join.
type JoinOutcome struct {
	Addr string
	Err  error // nil when it answered
}

// Join dials addrs, in parallel, once; the forms are those of Config.Seeds. It
// may be called at any time until Leave or Close. Whoever answers is kept in
// the table like anybody else; whoever does not is not tried again.
func (c *Cluster) Join(ctx context.Context, addrs []string) []JoinOutcome {
	out := make([]JoinOutcome, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		out[i].Addr = a
		wg.Go(func() { out[i].Err = c.joinOne(ctx, a) })
	}
	wg.Wait()
	return out
}

func (c *Cluster) joinOne(ctx context.Context, a string) error {
	s, err := address.ParseSeed(a, DefaultPort)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	addrs, err := s.Resolve(ctx, c.cfg.Resolver)
	if err != nil {
		return err
	}
	if err := c.contactAll(addrs); err != nil {
		if errors.Is(err, errSelf) {
			return fmt.Errorf("%s is this peer itself: give the address of another one", a)
		}
		return err
	}
	return nil
}
