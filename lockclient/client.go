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
// caller may leave, a renewal, a beat of a queue, a goodbye. Close waits for all.
type Client struct {
	cfg       Config
	addr      string
	id        string // node/instance
	seq       atomic.Uint64
	meta      string // for cfg.TTL
	ttlMS     string
	calls     redis.UniversalClient
	renewals  redis.UniversalClient
	batcher   batcher
	alarms    alarms
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
	calls, renewals, addr, err := connect(lines, cfg, gate)
	if err != nil {
		hangUp()
		return nil, fmt.Errorf("start lock client: %w", err)
	}
	c := &Client{
		cfg: cfg, addr: addr, id: escapeNode(cfg.Node) + "/" + hex.EncodeToString(instance[:]), meta: cfg.meta(cfg.TTL, false),
		ttlMS: strconv.FormatInt(cfg.TTL.Milliseconds(), 10),
		calls: calls, renewals: renewals, gate: gate, hangUp: hangUp, closed: make(chan struct{}),
		held: map[string]*Lock{}, waiters: map[string]*request{}, queues: map[string]*queue{}, ears: map[string]*ear{},
	}
	c.batcher.rdb = calls
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
	c.alarms.stop()
	c.hangUp()
	c.renewals.Close()
	c.calls.Close() // what is still waiting for an answer ends here
	c.rest(context.Background())
	c.events.stop()
	return nil
}

// A request is one try to get a lock, from the first question to its end.
type request struct {
	name    string
	keys    keys
	id      string
	ttl     time.Duration
	claim   time.Duration // 0 for a try
	limit   string        // limitAlone, or with how many it is shared
	command *string
	pid     int // 0 for that of Config
	onWait  func(Waiting)
	ear     *ear // nil for a try that has not got it yet

	// What the scripts are sent. Only one question is under way at a time; one
	// that was left open keeps these to itself.
	args                     []any
	ttlMS, meta, rest, place string
	asks                     int

	wake chan struct{} // capacity 1

	// Guarded by Client.mu.
	grant    *message // pushed, newer than asked
	again    bool     // ask again: the answer may have been missed
	asking   bool     // until the next answer no beat speaks for it
	err      error    // waiting is of no use
	asked    moment   // when the last question was sent that found it queued
	fence    uint64   // the last one granted then
	position int
	expires  moment // the first hold then; zero if not known
	holder   string
}

// tryAlone is the rest of the arguments of a first try to get a lock alone.
const tryAlone = limitAlone + " 0 0 0 p -"

// limitAlone is the limit of one that wants the lock alone.
const limitAlone = "x"

// maxClaim bounds what a waiter that is cut off can cost those behind it.
const maxClaim = time.Minute

func (c *Client) request(name string, wait bool, opts []Option) (*request, error) {
	r := &request{name: name, ttl: c.cfg.TTL, limit: limitAlone}
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
	r.args = arguments(&r.keys, 4)
	id := append(make([]byte, 0, 96), c.id...)
	r.id = string(strconv.AppendUint(append(id, '/'), c.seq.Add(1), 10))
	r.meta, r.ttlMS = c.meta, c.ttlMS
	if r.ttl != c.cfg.TTL || r.command != nil || r.pid != 0 || r.limit != limitAlone {
		cfg := c.cfg
		if r.pid != 0 {
			cfg.PID = r.pid
		}
		if r.command != nil {
			cfg.Command = *r.command
		}
		r.meta = cfg.meta(r.ttl, r.limit != limitAlone)
		r.ttlMS = strconv.FormatInt(r.ttl.Milliseconds(), 10)
	}
	r.place = "0"
	if wait {
		r.claim = min(r.ttl, max(time.Second, r.ttl/3), maxClaim)
		r.wake = make(chan struct{}, 1)
	}
	return r, nil
}

// question returns the arguments of acquire.lua.
func (r *request) question() []any {
	if r.ear == nil && r.limit == limitAlone && r.asks == 0 {
		r.rest = tryAlone
	} else {
		b := append(make([]byte, 0, 128), r.limit...)
		b = strconv.AppendInt(append(b, ' '), r.claim.Milliseconds(), 10)
		b = strconv.AppendInt(append(b, ' '), int64(min(r.asks, 1)), 10)
		b = append(append(b, ' '), r.place...)
		if r.ear == nil {
			b = append(b, " p -"...)
		} else {
			b = append(append(b, ' '), r.ear.letter()...)
			b = append(append(b, ' '), r.ear.channel...)
		}
		r.rest = string(b)
	}
	r.asks++
	return append(r.args[:argOwn], &r.id, &r.ttlMS, &r.meta, &r.rest)
}

// farewell returns the arguments of leave.lua, which shared hold, if any, has
// value.
func (r *request) farewell(value string) []any {
	a := arguments(&r.keys, 2)
	a[argOwn], a[argOwn+1] = &r.id, value
	return a
}

// signal wakes the goroutine that waits for r.
func (r *request) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
