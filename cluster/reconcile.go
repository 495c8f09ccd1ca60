package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/peerhq/peer/cluster/internal/address"
)

// memberlist joins once: it forgets who has been dead for a while, and after a
// partition both halves stay apart for ever. The reconciler runs for the whole
// life of a peer instead. It wants every seed, resolved anew each time, and
// every member ever seen that is not alive, and dials each of them, in
// parallel, with jittered backoff, until it answers or is forgotten.
//
// One loop decides who is due; each attempt is a goroutine of its own.

const (
	firstBackoff  = 250 * time.Millisecond
	freshBackoff  = 2 * time.Second  // cap for who has been wanted for less than freshFor
	laterBackoff  = 10 * time.Second // and for up to oldFor
	oldBackoff    = 30 * time.Second // and beyond
	freshFor      = 10 * time.Minute
	oldFor        = time.Hour
	crowdBackoff  = 20 * time.Millisecond // more for each of many targets
	maxAttempts   = 16                    // at once
	seedRecheck   = 30 * time.Second      // of a seed that has answered
	resolveFor    = 3 * time.Second
	secondContact = 60 * time.Millisecond // the server answers before it merges: what it refutes comes the second time
	wideContacts  = 16
	healAfter     = 600 * time.Millisecond
	earlyContact  = 2 * time.Second // and up to as much again
)

// target is one seed or member that is wanted.
type target struct {
	seed    *address.Seed
	addr    netip.AddrPort // of a member
	since   time.Time      // wanted
	tried   time.Time
	next    time.Time
	backoff time.Duration
	busy    bool
	lastOK  time.Time // wall clock
	lastErr error
}

// reconciler keeps the targets.
type reconciler struct {
	kick chan struct{} // something changed

	mu      sync.Mutex
	seeds   []*target
	members map[string]*target // by name

	once sync.Once // the wide and the early contact
}

// SeedStat tells how one configured seed does.
type SeedStat struct {
	Addr   string
	LastOK time.Time // zero if never
	Err    error     // of the last attempt
}

func newReconciler(seeds []address.Seed) *reconciler {
	r := &reconciler{kick: make(chan struct{}, 1), members: map[string]*target{}}
	for _, s := range seeds {
		r.seeds = append(r.seeds, &target{seed: &s})
	}
	return r
}

func (c *Cluster) kickReconcile() {
	select {
	case c.rec.kick <- struct{}{}:
	default:
	}
}

// reconcile runs until the cluster is closed or leaves.
func (c *Cluster) reconcile() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	slots := make(chan struct{}, maxAttempts)
	for {
		select {
		case <-c.closing:
			return
		case <-c.leaving:
			return
		case <-c.rec.kick:
		case <-timer.C:
		}
		timer.Reset(c.attemptDue(time.Now(), slots))
	}
}

// attemptDue starts an attempt for each target that is due and returns how
// long until the next one is.
func (c *Cluster) attemptDue(now time.Time, slots chan struct{}) time.Duration {
	lost, alone := c.lost()
	r := c.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, t := range r.members {
		if p, ok := lost[name]; !ok || p.Addr != t.addr {
			delete(r.members, name)
		}
	}
	for name, p := range lost {
		if r.members[name] == nil {
			r.members[name] = &target{addr: p.Addr, since: now}
		}
	}
	all := slices.Clone(r.seeds)
	for _, t := range r.members {
		all = append(all, t)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	wait := time.Minute
	for _, t := range all {
		if t.busy {
			continue
		}
		if again := t.tried.Add(freshBackoff); alone && t.seed != nil && t.next.After(again) {
			t.next = again // it did answer, but nobody is left
		}
		if d := t.next.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			return firstBackoff / 2 // all busy with hosts that do not answer
		}
		t.busy = true
		crowd := time.Duration(len(all)) * crowdBackoff
		c.wg.Go(func() {
			err := c.attempt(t)
			<-slots
			c.attempted(t, err, crowd)
			c.kickReconcile()
		})
	}
	return wait
}

// attempted books the outcome of an attempt and sets when the next one is due.
func (c *Cluster) attempted(t *target, err error, crowd time.Duration) {
	r := c.rec
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	// One line when something is new, not one for each attempt.
	changed := t.tried.IsZero() || !address.SameFailure(t.lastErr, err)
	t.busy, t.tried = false, now
	t.lastErr = err
	if err == nil {
		t.backoff = 0
		t.since = now
		t.lastOK = c.cfg.Now()
		t.next = now.Add(jitter(seedRecheck))
		if t.seed == nil {
			t.next = now.Add(jitter(firstBackoff)) // it answered, so it is about to be alive
		}
		if t.seed != nil && changed {
			c.logger.Info("seed answered", "seed", t.seed.String())
		}
		return
	}
	limit := freshBackoff
	if gone := now.Sub(t.since); gone > oldFor && t.seed == nil {
		limit = oldBackoff
	} else if gone > freshFor && t.seed == nil {
		limit = laterBackoff
	}
	t.backoff = min(max(2*t.backoff, firstBackoff), max(limit, crowd))
	t.next = now.Add(jitter(t.backoff))
	if t.seed != nil && changed && !errors.Is(err, errClosing) {
		c.logger.Warn("seed does not answer, trying on", "seed", t.seed.String(), "err", err)
	}
}

// jitter spreads d by a quarter either way.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// attempt dials what t stands for now.
func (c *Cluster) attempt(t *target) error {
	if t.seed == nil {
		return c.contact(t.addr)
	}
	ctx, cancel := context.WithTimeout(c.trans.life, resolveFor)
	defer cancel()
	addrs, err := t.seed.Resolve(ctx, c.cfg.Resolver)
	if err != nil {
		return err
	}
	return c.contactAny(addrs)
}

// contactAny makes sure that at least one of addrs is in one cluster with this
// peer. An address that is this peer's own, or a live member's, needs no dial.
func (c *Cluster) contactAny(addrs []netip.AddrPort) error {
	var dial []netip.AddrPort
	known := false
	for _, a := range addrs {
		switch {
		case c.isLive(a):
			known = true
		default:
			dial = append(dial, a)
		}
	}
	if known || len(dial) == 0 {
		return nil
	}
	errs := make(chan error, len(dial))
	for _, a := range dial {
		c.wg.Go(func() { errs <- c.contact(a) })
	}
	var all []error
	for range dial {
		err := <-errs
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return address.Several("addresses, none answers", all)
}

// isLive says whether addr is this peer or a member that is alive.
func (c *Cluster) isLive(addr netip.AddrPort) bool {
	if c.isSelf(addr) {
		return true
	}
	for _, m := range c.View().Members {
		if m.Addr == addr && (m.State == Alive || m.State == Suspect) {
			return true
		}
	}
	return false
}

func (c *Cluster) isSelf(addr netip.AddrPort) bool {
	if addr == c.trans.advertise {
		return true
	}
	bound := c.trans.listener.Addr().(*net.TCPAddr).AddrPort()
	return addr.Port() == bound.Port() && (addr.Addr() == bound.Addr().Unmap() ||
		bound.Addr().IsUnspecified() && addr.Addr().IsLoopback())
}

// contact exchanges the whole state with the peer at addr, which makes each
// known to the other.
func (c *Cluster) contact(addr netip.AddrPort) error {
	if err := c.exchange(addr); err != nil {
		return err
	}
	c.joined.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spawn(func() {
		if c.sleep(secondContact) {
			_ = c.exchange(addr)
		}
	})
	c.rec.once.Do(func() {
		c.spawn(c.contactWidely)
		c.spawn(c.contactEarly)
	})
	return nil
}

// exchange is one push/pull, which memberlist calls a join.
func (c *Cluster) exchange(addr netip.AddrPort) error {
	if c.isLeaving() {
		return errClosing
	}
	name, t, done := c.trans.traced()
	defer done()
	if _, err := c.ml.Join([]string{name + "/" + addr.String()}); err != nil {
		return explainJoin(addr, err, t, c.cfg.Label, c.gossipKeys())
	}
	return nil
}

// contactWidely introduces this peer to several at once after its first
// contact: memberlist's own announcement waits for the gossip's ticks.
func (c *Cluster) contactWidely() {
	for _, a := range c.someLive(wideContacts) {
		c.wg.Go(func() { _ = c.exchange(a) })
	}
}

// contactEarly repeats the exchange with a random member soon after the start.
// Who starts together with many misses some of the gossip.
func (c *Cluster) contactEarly() {
	if !c.sleep(earlyContact + rand.N(earlyContact)) {
		return
	}
	for _, a := range c.someLive(1) {
		_ = c.exchange(a)
	}
}

// healed has this peer compare notes with its successors on the ring soon after
// somebody came back who had failed: a partition is likely over, and gossip alone
// now and then leaves one peer out, which would take seconds to find out by itself
// (see roster.go). Everybody does so, so everybody is asked by three. The
// caller holds c.mu.
func (c *Cluster) healed() {
	if c.healing {
		return
	}
	c.healing = c.spawn(func() {
		soon := c.sleep(healAfter/2 + rand.N(healAfter))
		c.mu.Lock()
		c.healing = false
		var to []netip.AddrPort
		for _, r := range successors(c.ring(), c.self, 1) {
			to = append(to, r.m.Addr)
		}
		c.mu.Unlock()
		for _, a := range to {
			if soon {
				_ = c.exchange(a)
			}
		}
	})
}

// someLive returns the addresses of up to n other live members, at random.
func (c *Cluster) someLive(n int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, m := range c.View().Members {
		if !m.Self && m.State == Alive {
			out = append(out, m.Addr)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(n, len(out))]
}

// JoinOutcome is what came of one address given to Join.
type JoinOutcome struct {
	Addr string
	Err  error // nil when it answered
}

// Join dials addrs, in parallel, once; the forms are those of Config.Seeds. It
// may be called at any time until Leave or Close. Who answers is kept in
// the table like anybody else; who does not is not tried again.
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
	if len(addrs) == 1 && c.isSelf(addrs[0]) {
		return fmt.Errorf("%s is this peer itself: give the address of another one", a)
	}
	return c.contactAny(addrs)
}
