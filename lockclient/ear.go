package lockclient

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// processChannel starts the name of a channel, after the prefix; the process's
// id, which is that of its client, follows.
const processChannel = "process:"

// earPing is how often the subscription is tested while nothing is heard.
const earPing = 10 * time.Second

// An ear is a process's subscription to its one channel. It is opened by the
// first waiter, or by a hold that lasts, and stays open until Close.
type ear struct {
	channel    string // where this process is called
	opened     atomic.Bool
	subscribed atomic.Bool
	err        error // why it cannot be opened; guarded by Client.mu
}

// letter says to the scripts how this process is called, see handover.lua.
func (e *ear) letter() string {
	if e.subscribed.Load() {
		return "P"
	}
	return "p"
}

// slowly is added to the attempts after which one gives up hope, for now.
const slowly = 100

func (c *Client) openEar() {
	if !c.ear.opened.CompareAndSwap(false, true) {
		return
	}
	c.background(c.listen)
}

// listen keeps the subscription up, and acts on what it hears.
func (c *Client) listen() {
	for attempt := 0; c.life.Err() == nil; attempt++ {
		err := c.hear(func() { attempt = 0 })
		c.ear.subscribed.Store(false)
		if c.life.Err() != nil {
			return
		}
		err = explain(c.addr, err)
		c.cfg.Logger.Debug("subscription broke", "addr", c.addr, "err", err)
		if lasting(err) {
			c.deaf(err)
			attempt += slowly
		}
		c.pause(c.life, attempt)
	}
}

// hear subscribes and returns when that broke; up is called when it stood.
func (c *Client) hear(up func()) error {
	life := forLife(c.life)
	ps := c.calls.Subscribe(life)
	defer ps.Close()
	if err := ps.Subscribe(life, c.ear.channel); err != nil {
		return err
	}
	asked := true // for a sign of life: the confirmation
	for {
		wait := earPing
		if asked {
			wait = pingTimeout + minCallTimeout
		}
		msg, err := ps.ReceiveTimeout(life, wait)
		var netErr net.Error
		switch {
		case err == nil:
		case errors.As(err, &netErr) && netErr.Timeout() && !asked:
			if err := ps.Ping(life); err != nil {
				return err
			}
			asked = true
			continue
		default:
			return err
		}
		asked = false
		c.overhear(msg, up)
	}
}

// overhear acts on one thing heard.
func (c *Client) overhear(msg any, up func()) {
	switch msg := msg.(type) {
	case *redis.Subscription:
		up()
		c.ear.subscribed.Store(true)
		c.askAgain()
	case *redis.Message:
		m, ok := decodeMessage(msg.Payload)
		switch {
		case !ok:
			c.cfg.Logger.Debug("message not understood", "addr", c.addr)
		case m.kind == "grant":
			c.pushed(m)
		case m.kind == "lost":
			c.mu.Lock()
			l := c.held[m.id]
			c.mu.Unlock()
			if l != nil && l.fence == m.fence {
				l.forced()
			}
		}
	}
}

// askAgain has every waiter ask again: what was said before now went unheard.
func (c *Client) askAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ear.err = nil
	for _, q := range c.queues {
		for _, r := range q.waiters {
			r.askAgain()
		}
	}
}

// deaf tells the waiters, and those to come, that this process cannot be called.
func (c *Client) deaf(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ear.err = err
	for _, q := range c.queues {
		for _, r := range q.waiters {
			r.err = err
			r.signal()
		}
	}
}

// pushed hands a grant to its waiter. One that nobody waits for any more goes
// back.
func (c *Client) pushed(m message) {
	c.mu.Lock()
	r := c.waiters[m.id]
	_, held := c.held[m.id]
	if r != nil && m.fence > r.fence {
		r.grant = &m
		r.signal()
	}
	c.mu.Unlock()
	if r == nil && !held {
		// A question left open has put it into the queue after the goodbye.
		if name, ok := nameOf(c.cfg.Prefix, m.key); ok {
			c.forget(&request{keys: lockKeys(c.cfg.Prefix, name), id: m.id, ttl: max(m.claim, MinTTL)}, nil)
		}
	}
}
