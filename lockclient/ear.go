package lockclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// processChannel starts the name of a channel, after the prefix; the
	// process's id, which is that of its client, follows.
	processChannel = "process:"
	// lockChannel does on a Cluster, after the lock's key.
	lockChannel = ":c:"
	// earPing is how often the subscription is tested while nothing is heard.
	earPing = 10 * time.Second
	// slowly is added to the attempts after which one gives up hope, for now.
	slowly = 100
)

// An ear is a subscription to the one channel where this process is called: one
// for all locks, or on a Cluster, where a channel lives with its slot, one for
// each lock. It is opened by the first waiter, or by a hold that lasts. The one
// for all stays open until Close, the others as long as somebody needs them.
//
// Goroutine: listen, once it is open.
type ear struct {
	c          *Client
	channel    string
	sharded    bool
	life       context.Context
	end        context.CancelFunc
	opened     atomic.Bool
	subscribed atomic.Bool
	users      int   // guarded by Client.mu
	err        error // why it cannot be opened; guarded by Client.mu
}

func (c *Client) newEar(channel string, sharded bool) *ear {
	e := &ear{c: c, channel: channel, sharded: sharded}
	e.life, e.end = context.WithCancel(c.life)
	return e
}

// lend returns the ear for r's lock, until it is given back. The caller holds
// c.mu.
func (c *Client) lend(r *request) *ear {
	if !c.clustered {
		return c.ear
	}
	e := c.ears[r.name]
	if e == nil {
		e = c.newEar(r.keys[0]+lockChannel+c.id, true)
		c.ears[r.name] = e
	}
	e.users++
	return e
}

// giveBack undoes lend. The caller holds c.mu.
func (c *Client) giveBack(r *request) {
	if !c.clustered || r.ear == nil {
		return
	}
	r.ear.users--
	if r.ear.users == 0 {
		r.ear.end()
		delete(c.ears, r.name)
	}
}

// caller is how to call the holder with an id from its ear: a command, and what
// its channel starts with.
func (c *Client) caller(k *keys) (command, channel string) {
	if c.clustered {
		return "SPUBLISH", k[0] + lockChannel
	}
	return "PUBLISH", c.cfg.Prefix + processChannel
}

// letter says to the scripts how this process is called, see handover.lua.
func (e *ear) letter() string {
	switch {
	case e.sharded && e.subscribed.Load():
		return "S"
	case e.sharded:
		return "s"
	case e.subscribed.Load():
		return "P"
	}
	return "p"
}

// open begins to listen, the first time.
func (e *ear) open() {
	if e.opened.CompareAndSwap(false, true) {
		e.c.background(e.listen)
	}
}

// listen keeps the subscription up, and acts on what it hears.
func (e *ear) listen() {
	for attempt := 0; e.life.Err() == nil; attempt++ {
		began := now()
		err := e.hear(func() { attempt = 0 })
		e.subscribed.Store(false)
		if e.life.Err() != nil {
			return
		}
		err = explain(e.c.addr, err)
		e.c.cfg.Logger.Debug("subscription broke", "addr", e.c.addr, "err", err)
		if lasting(err) {
			e.deaf(err)
			attempt += slowly
		}
		if now().sub(began) > time.Second && attempt == 0 {
			continue // it stood: until it does again, a waiter may miss its turn
		}
		e.c.pause(e.life, attempt)
	}
}

// hear subscribes and returns when that broke; up is called when it stood.
func (e *ear) hear(up func()) error {
	life := forLife(e.life)
	var ps *redis.PubSub
	subscribe := (*redis.PubSub).Subscribe
	if e.sharded {
		ps, subscribe = e.c.calls.SSubscribe(life), (*redis.PubSub).SSubscribe
	} else {
		ps = e.c.calls.Subscribe(life)
	}
	defer ps.Close()
	if err := subscribe(ps, life, e.channel); err != nil {
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
		switch msg := msg.(type) {
		case *redis.Subscription:
			up()
			e.subscribed.Store(true)
			e.c.mu.Lock()
			e.err = nil
			e.c.mu.Unlock()
			e.c.askAgain(e)
		case *redis.Message:
			e.c.told(msg.Payload)
		}
	}
}

// askAgain has every waiter that listens to e, or every one if e is nil, ask
// again, for what was said before now may have gone unheard; and every holder
// renew, for Redis may have been started anew and know nothing of it.
func (c *Client) askAgain(e *ear) {
	c.mu.Lock()
	for _, q := range c.queues {
		for _, r := range q.waiters {
			if e == nil || r.ear == e {
				r.askAgain()
			}
		}
	}
	var held []*Lock
	for _, l := range c.held {
		if e == nil || l.r.ear == e {
			held = append(held, l)
		}
	}
	c.mu.Unlock()
	for _, l := range held {
		l.hurry()
	}
}

// deaf tells the waiters, and those to come, that this process cannot be called.
func (e *ear) deaf(err error) {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.err = err
	for _, q := range e.c.queues {
		for _, r := range q.waiters {
			if r.ear == e {
				r.err = err
				r.signal()
			}
		}
	}
}

// told acts on what was said to this process.
func (c *Client) told(payload string) {
	m, ok := decodeMessage(payload)
	if !ok {
		c.cfg.Logger.Debug("message not understood", "addr", c.addr)
		return
	}
	c.mu.Lock()
	r, l := c.waiters[m.id], c.held[m.id]
	if m.kind == "grant" && r != nil && m.fence > r.fence {
		r.grant = &m
		r.signal()
	}
	if m.kind == "lost" && l == nil && strings.HasPrefix(m.id, c.id+"/") {
		c.noteEarly(m)
	}
	c.mu.Unlock()
	switch {
	case m.kind == "lost" && l != nil && l.fence == m.fence:
		l.forced()
	case m.kind == "grant" && r == nil && l == nil:
		// A question left open has put it into the queue after the goodbye.
		if name, ok := nameOf(c.cfg.Prefix, m.key); ok {
			c.forget(&request{keys: lockKeys(c.cfg.Prefix, name), id: m.id, ttl: max(m.claim, MinTTL)}, nil)
		}
	}
}

// maxEarly bounds Client.early.
const maxEarly = 64

// noteEarly keeps that a hold was taken by force, for when its grant is seen: the
// two come on different connections. The caller holds c.mu.
func (c *Client) noteEarly(m message) {
	for id := range c.early {
		if len(c.early) < maxEarly {
			break
		}
		delete(c.early, id)
	}
	c.early[m.id] = m.fence
}

// takenEarly reports whether l, which is held now, was taken by force before.
func (c *Client) takenEarly(l *Lock) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.early) == 0 {
		return false
	}
	fence, ok := c.early[l.r.id]
	delete(c.early, l.r.id)
	return ok && fence == l.fence
}
