package lockclient

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// closeGrace is how long Close waits for Redis to take back what is held.
const closeGrace = 2 * time.Second

// A Client takes locks in one Redis. Its methods may be called from any
// goroutine.
//
// Goroutines: health (from Start to Close), the events' one when OnEvent is set,
// listen (from the first waiter on), and short-lived ones: a call that its
// caller may leave, a renewal, a beat of a queue, a goodbye. Close waits for all.
type Client struct {
	cfg      Config
	addr     string
	id       string // node/instance
	seq      atomic.Uint64
	meta     string // for cfg.TTL
	calls    *redis.Client
	renewals *redis.Client
	gate     *dialGate
	events   *events
	health   health
	ear      ear

	life    context.Context // ends when Close begins
	end     context.CancelFunc
	closing atomic.Bool
	closed  chan struct{}

	mu      sync.Mutex
	running int           // goroutines and calls that Close has to wait for
	idle    chan struct{} // closed when running drops to 0, if not nil
	stopped bool
	held    map[string]*Lock    // by id
	waiters map[string]*request // by id, before their first question is asked
	queues  map[string]*queue   // by name
}

// Start returns a client of the Redis that cfg names, and tries to reach it in
// the background: that it cannot be reached yet is no error. A malformed URL or
// a password file that cannot be used is.
func Start(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("start lock client: %w", err)
	}
	var instance [8]byte
	if _, err := io.ReadFull(cfg.Rand, instance[:]); err != nil {
		return nil, fmt.Errorf("start lock client: draw an instance: %w", err)
	}
	gate := &dialGate{}
	calls, renewals, addr, err := connect(cfg, gate)
	if err != nil {
		return nil, fmt.Errorf("start lock client: %w", err)
	}
	c := &Client{
		cfg: cfg, addr: addr, id: escapeNode(cfg.Node) + "/" + hex.EncodeToString(instance[:]), meta: cfg.meta(cfg.TTL),
		calls: calls, renewals: renewals, gate: gate, closed: make(chan struct{}),
		held: map[string]*Lock{}, waiters: map[string]*request{}, queues: map[string]*queue{},
	}
	c.ear.channel = cfg.Prefix + "process:" + c.id
	c.life, c.end = context.WithCancel(context.Background())
	c.events = startEvents(cfg.OnEvent)
	c.background(c.watchHealth)
	return c, nil
}

// begin counts something that Close has to wait for until done is called; false
// after Close.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return false
	}
	c.running++
	return true
}

func (c *Client) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// background runs f on a goroutine that Close waits for, unless Close is over.
func (c *Client) background(f func()) {
	if c.begin() {
		go func() {
			defer c.done()
			f()
		}()
	}
}

// rest waits until nothing runs any more and lets nothing start again, or until
// ctx is done: then only the latter.
func (c *Client) rest(ctx context.Context) {
	for {
		c.mu.Lock()
		if c.running == 0 || ctx.Err() != nil {
			c.stopped = true
			c.mu.Unlock()
			return
		}
		if c.idle == nil {
			c.idle = make(chan struct{})
		}
		idle := c.idle
		c.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
		}
	}
}

// Close gives back every lock held, leaves every queue and returns when the last
// goroutine of the client has ended, after about two seconds at most. Locks that
// Redis does not take back in that time expire. Later calls return the same.
func (c *Client) Close() error {
	if !c.closing.CompareAndSwap(false, true) {
		<-c.closed
		return nil
	}
	defer close(c.closed)
	c.end()

	c.mu.Lock()
	var held []*Lock
	for _, l := range c.held {
		held = append(held, l)
	}
	for _, w := range c.waiters {
		w.signal()
	}
	for _, q := range c.queues {
		q.timer.Stop()
	}
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	for _, l := range held {
		c.background(func() { l.Release(ctx) })
	}
	c.rest(ctx)
	c.renewals.Close()
	c.calls.Close() // what is still waiting for an answer ends here
	c.rest(context.Background())
	c.events.stop()
	return nil
}

// A request is one try to get a lock, from the first question to its end. Its
// fields below mu are guarded by Client.mu.
type request struct {
	name    string
	keys    keys
	id      string
	ttl     time.Duration
	claim   time.Duration
	meta    string
	command *string
	onWait  func(Waiting)

	wake     chan struct{} // capacity 1
	grant    *message      // pushed, newer than asked
	again    bool          // ask again: the answer may have been missed
	asking   bool          // until the next answer no beat speaks for it
	err      error         // waiting is of no use
	asked    moment        // when the last question was sent that found it queued
	fence    uint64        // of the holder then
	place    string
	position int
	expires  moment // the holder's hold then; zero if never
	holder   string
}

// maxClaim bounds what a waiter that is cut off can cost those behind it.
const maxClaim = time.Minute

func (c *Client) request(name string, opts []Option) (*request, error) {
	r := &request{name: name, ttl: c.cfg.TTL}
	for _, o := range opts {
		o(r)
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := checkTTL(r.ttl); err != nil {
		return nil, err
	}
	r.keys = lockKeys(c.cfg.Prefix, name)
	r.id = c.id + "/" + strconv.FormatUint(c.seq.Add(1), 10)
	r.claim = min(r.ttl, max(time.Second, r.ttl/3), maxClaim)
	r.meta = c.meta
	if r.ttl != c.cfg.TTL || r.command != nil {
		cfg := c.cfg
		if r.command != nil {
			cfg.Command = *r.command
		}
		r.meta = cfg.meta(r.ttl)
	}
	return r, nil
}

// signal wakes the goroutine that waits for r.
func (r *request) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
