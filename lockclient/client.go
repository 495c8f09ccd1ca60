package lockclient

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
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
// caller may leave and that finds no connection ready, what is left of one that
// was left, a pipeline of renewals, a beat of a queue, a goodbye. Close waits for all.
type Client struct {
	cfg       Config
	addr      string
	id        string // node/instance
	seq       atomic.Uint64
	meta      string // for cfg.TTL
	ttlMS     string
	calls     redis.UniversalClient
	renewals  redis.UniversalClient
	questions *questions
	batcher   batcher
	alarms    alarms
	renewer   renewer
	teaching  atomic.Bool
	gate      *dialGate
	events    *events
	health    health
	clustered bool
	ear       *ear // for all locks, unless clustered

	life    context.Context // ends when Close begins
	end     context.CancelFunc
	hangUp  context.CancelFunc // ends dials
	closing atomic.Bool
	closed  chan struct{}

	mu      sync.Mutex
	running int           // goroutines and calls that Close has to wait for
	idle    chan struct{} // closed when running drops to 0, if not nil
	stopped bool
	held    map[string]*Lock    // by id
	waiters map[string]*request // by id, before their first question is asked
	queues  map[string]*queue   // by name
	ears    map[string]*ear     // by name, when clustered
	early   map[string]uint64   // fences of holds that were taken by force before their grant was seen, by id
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
	lines, hangUp := context.WithCancel(context.Background())
	qs := &questions{open: map[int64]*question{}}
	calls, renewals, addr, err := connect(lines, cfg, gate, qs)
	if err != nil {
		hangUp()
		return nil, fmt.Errorf("start lock client: %w", err)
	}
	c := &Client{
		cfg: cfg, addr: addr, id: escapeNode(cfg.Node) + "/" + hex.EncodeToString(instance[:]), meta: cfg.meta(cfg.TTL, false),
		ttlMS: strconv.FormatInt(cfg.TTL.Milliseconds(), 10),
		calls: calls, renewals: renewals, questions: qs, gate: gate, hangUp: hangUp, closed: make(chan struct{}),
		held: map[string]*Lock{}, waiters: map[string]*request{}, queues: map[string]*queue{}, ears: map[string]*ear{}, early: map[string]uint64{},
	}
	c.batcher.rdb, c.batcher.background, c.batcher.teach, qs.background = calls, c.background, c.teach, c.background
	c.alarms.wake, c.renewer.c = c.wake, c
	c.health.troubled.Store(true)
	c.health.answered.Store(math.MinInt64 / 2)
	c.life, c.end = context.WithCancel(context.Background())
	_, c.clustered = calls.(*redis.ClusterClient)
	c.ear = c.newEar(cfg.Prefix+processChannel+c.id, false)
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

// background runs f on a goroutine that Close waits for, unless Close is over:
// then it returns false.
func (c *Client) background(f func()) bool {
	if !c.begin() {
		return false
	}
	go func() {
		defer c.done()
		f()
	}()
	return true
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
	held := c.quiesce()
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	for _, l := range held {
		c.background(func() { l.Release(ctx) })
	}
	c.rest(ctx)
	c.alarms.stop()
	c.disconnect() // what is still waiting for an answer ends here
	c.rest(context.Background())
	c.events.stop()
	return nil
}

// Abandon ends the client as the end of its process would: its connections
// break, nothing is given back, no queue is left and no event is told any more.
// Its locks are lost here at once, with ErrClosed as the reason; Redis keeps them
// and its waiters until their time is over. It returns when the last goroutine of
// the client has ended. It is for tests of what others see; a program that ends
// calls Close.
func (c *Client) Abandon() {
	c.events.mute()
	c.disconnect() // first: nothing may be sent any more
	if !c.closing.CompareAndSwap(false, true) {
		<-c.closed
		return
	}
	defer close(c.closed)
	c.end()
	for _, l := range c.quiesce() {
		l.perish()
	}
	c.alarms.stop()
	c.rest(context.Background())
	c.events.stop()
}

// quiesce wakes the waiters, so that they see that the client closes, stops the
// beats, and returns the locks held.
func (c *Client) quiesce() (held []*Lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.held {
		held = append(held, l)
	}
	for _, w := range c.waiters {
		w.signal()
	}
	for _, q := range c.queues {
		q.timer.Stop()
	}
	return held
}

// disconnect breaks all connections and lets none come about.
func (c *Client) disconnect() {
	c.hangUp()
	c.renewals.Close()
	c.calls.Close()
}
