package checks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// slots is how many checks run at one time.
const slots = 16

var (
	// ErrUnknown: nothing of that name is checked.
	ErrUnknown = errors.New("no such check")
	// ErrNotTTL: a sign of life for a check that finds out by itself.
	ErrNotTTL = errors.New("not a ttl check")
)

// Config says how a Checker reaches its targets and whom it tells.
type Config struct {
	// Dial reaches a target. Default: the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// OnChange is called after the health of a service has changed, from a
	// goroutine of the Checker's, several at a time; it must not block for long
	// and must not call Close. Default: nobody.
	OnChange func(name string)
	// Logger gets a line for every change. Default: none.
	Logger hclog.Logger
}

// Status is how a service was found.
type Status struct {
	Kind, Target string
	Health       string
	Output       string    // why, in one line of ours
	Since        time.Time // when Health began
	Checked      time.Time // the last result; zero before the first
	Took         time.Duration
}

// Checker runs the checks of this host's services. All methods may be called
// from any goroutine.
//
// Its goroutines: one a check. Close ends and awaits them.
type Checker struct {
	cfg  Config
	ctx  context.Context // done when Close begins
	end  context.CancelFunc
	slot chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex
	checks map[string]*check
	closed bool
}

// check is one service under observation. Its fields below cancel are guarded
// by the Checker's mu.
type check struct {
	name   string
	spec   Spec
	ctx    context.Context
	cancel context.CancelFunc
	sign   chan struct{} // a sign of life came

	status Status
	streak int // results in a row that speak for another health
}

// Start returns a Checker with nothing to check.
func Start(cfg Config) *Checker {
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	c := &Checker{cfg: cfg, slot: make(chan struct{}, slots), checks: map[string]*check{}}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// Set checks the service called name by spec from now on, instead of what it
// was checked by. The same spec again changes nothing. The error is that of
// [Spec.Validate].
func (c *Checker) Set(name string, spec Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	spec = spec.withDefaults()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	old := c.checks[name]
	if old != nil && old.spec == spec {
		return nil
	}
	if old != nil {
		old.cancel()
	}
	k := &check{name: name, spec: spec, sign: make(chan struct{}, 1)}
	k.ctx, k.cancel = context.WithCancel(c.ctx)
	k.status = Status{Kind: spec.Kind(), Target: spec.Target(), Health: Critical, Output: "not checked yet", Since: time.Now()}
	if spec.TTL != 0 {
		k.status.Output = "no sign of life yet"
	}
	c.checks[name] = k
	c.wg.Go(func() { c.watch(k) })
	return nil
}

// Remove ends the check of name, if there is one.
func (c *Checker) Remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.checks[name]; k != nil {
		k.cancel()
		delete(c.checks, name)
	}
}

// Status returns how name was found last, and false when it is not checked.
func (c *Checker) Status(name string) (Status, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.checks[name]
	if k == nil {
		return Status{}, false
	}
	return k.status, true
}

// Pass is a service's own sign of life: it says how it is, and that lasts for
// its TTL. The error is ErrUnknown or ErrNotTTL.
func (c *Checker) Pass(name, health, output string) error {
	c.mu.Lock()
	k := c.checks[name]
	if k == nil {
		c.mu.Unlock()
		return ErrUnknown
	}
	if k.spec.TTL == 0 {
		c.mu.Unlock()
		return ErrNotTTL
	}
	changed := k.become(health, output)
	c.mu.Unlock()
	select {
	case k.sign <- struct{}{}:
	default: // the last one has not been seen yet
	}
	if changed {
		c.tell(k.name, health, output)
	}
	return nil
}

// Close ends all checks and returns when the last has ended.
func (c *Checker) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.wg.Wait()
}

func (c *Checker) watch(k *check) {
	if k.spec.TTL != 0 {
		c.watchSigns(k)
		return
	}
	// The first result soon: nobody is handed the service before. Not all at
	// once, though: many are registered together when an agent starts.
	wait := rand.N(min(k.spec.Interval, time.Second)/4 + 1)
	for sleep(k.ctx, wait) {
		select {
		case c.slot <- struct{}{}:
		case <-k.ctx.Done():
			return
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(k.ctx, k.spec.Timeout)
		health, output := c.probe(ctx, k.spec)
		if health == Critical && ctx.Err() != nil && k.ctx.Err() == nil {
			output = fmt.Sprintf("no answer within %v", k.spec.Timeout)
		}
		cancel()
		<-c.slot
		c.take(k, health, output, time.Since(began))
		// Drawn anew each time, so that the checks of a fleet that was started
		// together drift apart.
		wait = k.spec.Interval*9/10 + rand.N(k.spec.Interval/5+1)
	}
}

// take counts a result, and tells of the change that it makes.
func (c *Checker) take(k *check, health, output string, took time.Duration) {
	c.mu.Lock()
	if k.ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	k.status.Took = took
	changed := k.observe(health, output)
	c.mu.Unlock()
	if changed {
		c.tell(k.name, health, output)
	}
}

// watchSigns waits for signs of life, and for their end.
func (c *Checker) watchSigns(k *check) {
	t := time.NewTimer(k.spec.TTL)
	defer t.Stop()
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.sign:
			t.Reset(k.spec.TTL)
			continue
		case <-t.C:
		}
		output := fmt.Sprintf("no sign of life for %v", k.spec.TTL)
		c.mu.Lock()
		// A sign that came just now has not been seen by this goroutine yet.
		late := k.ctx.Err() == nil && (k.status.Checked.IsZero() || time.Since(k.status.Checked) >= k.spec.TTL)
		changed := late && k.status.Health != Critical
		if late {
			k.status.Output = output
		}
		if changed {
			k.status.Health, k.status.Since = Critical, time.Now()
		}
		c.mu.Unlock()
		if changed {
			c.tell(k.name, Critical, output)
		}
	}
}

func (c *Checker) tell(name, health, output string) {
	c.cfg.Logger.Info("health of a service", "service", name, "state", health, "cause", output)
	c.cfg.OnChange(name)
}

// observe counts one result by rise and fall and says whether it changed the
// health. The caller holds the Checker's mu.
func (k *check) observe(health, output string) bool {
	first := k.status.Checked.IsZero()
	switch {
	case first:
		return k.become(health, output)
	case health == k.status.Health:
		k.streak = 0
		k.status.Checked, k.status.Output = time.Now(), output
		return false
	}
	better := rank(health) < rank(k.status.Health)
	if better != (k.streak > 0) {
		k.streak = 0
	}
	need := k.spec.Fall
	if better {
		k.streak++
		need = k.spec.Rise
	} else {
		k.streak--
	}
	n := max(k.streak, -k.streak)
	if n >= need {
		return k.become(health, output)
	}
	k.status.Checked = time.Now()
	k.status.Output = fmt.Sprintf("%s (%d of %d)", output, n, need)
	return false
}

// become sets the health and says whether that is a change. The caller holds
// the Checker's mu.
func (k *check) become(health, output string) bool {
	now := time.Now()
	k.streak = 0
	k.status.Checked, k.status.Output = now, output
	if k.status.Health == health {
		return false
	}
	k.status.Health, k.status.Since = health, now
	return true
}

func rank(health string) int {
	switch health {
	case Passing:
		return 0
	case Warning:
		return 1
	}
	return 2
}

// sleep returns false when ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
