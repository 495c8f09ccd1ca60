package httpapi

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// A connLimiter is a listener that keeps at most max connections. When it is
// full, the connection that has been without a request for the longest gives
// way to a new one: one that idles between two requests, or one that has opened
// and not sent a whole request yet. So neither idle clients nor a thousand
// half-sent requests keep a probe waiting for long. Connections whose request
// is being answered stay, and so do those that have just come; when all are
// such, new ones wait.
type connLimiter struct {
	net.Listener
	max     int
	local   bool // a unix socket
	metrics *metrics

	mu     sync.Mutex
	room   *sync.Cond
	open   int
	idle   list.List // of *conn without a request, the longest first
	closed bool
}

func limitConns(l net.Listener, most int, local bool, m *metrics) *connLimiter {
	cl := &connLimiter{Listener: l, max: most, local: local, metrics: m}
	cl.room = sync.NewCond(&cl.mu)
	return cl
}

// Accept returns the next connection once there is room for it.
func (l *connLimiter) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, limiter: l}
	l.mu.Lock()
	for l.open >= l.max && !l.closed {
		if !l.evict() {
			l.room.Wait()
		}
	}
	if l.closed {
		l.mu.Unlock()
		nc.Close()
		return nil, net.ErrClosed
	}
	l.open++
	c.rest()
	l.mu.Unlock()
	l.metrics.conns.Inc()
	return c, nil
}

// evict drops the connection that has been without a request for the longest,
// and returns false when there is none, or when the time for it has not come.
// In that case l.room is signalled when it has. The caller holds l.mu.
func (l *connLimiter) evict() bool {
	oldest := l.idle.Front()
	if oldest == nil {
		return false
	}
	c := oldest.Value.(*conn)
	if early := restTime - time.Since(c.rested); early > 0 {
		time.AfterFunc(early, l.room.Signal)
		return false
	}
	l.drop(c)
	l.metrics.evicted.Inc()
	c.Conn.Close() // does not block; its own Close finds it dropped
	return true
}

// Close closes the listener. Its connections stay.
func (l *connLimiter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// drop forgets c. The caller holds l.mu.
func (l *connLimiter) drop(c *conn) {
	if c.dropped {
		return
	}
	c.dropped = true
	if c.place != nil {
		l.idle.Remove(c.place)
		c.place = nil
	}
	l.open--
	l.room.Signal()
	l.metrics.conns.Dec()
}

// A conn is one connection of a connLimiter.
type conn struct {
	net.Conn
	limiter *connLimiter
	// Guarded by limiter.mu.
	place   *list.Element // in limiter.idle, nil while a request is answered
	rested  time.Time     // since when place is not nil
	dropped bool
}

// begin marks that a whole request has come, so that c does not give way.
func (c *conn) begin() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if c.place != nil {
		c.limiter.idle.Remove(c.place)
		c.place = nil
	}
}

// end undoes begin: the answer has been sent to its last byte.
func (c *conn) end() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if !c.dropped && c.place == nil {
		c.rest()
		c.limiter.room.Signal()
	}
}

// rest puts c at the end of those that may give way. The caller holds
// limiter.mu.
func (c *conn) rest() {
	c.rested = time.Now()
	c.place = c.limiter.idle.PushBack(c)
}

// Close closes the connection and makes room.
func (c *conn) Close() error {
	c.limiter.mu.Lock()
	c.limiter.drop(c)
	c.limiter.mu.Unlock()
	return c.Conn.Close()
}

// restTime is how long a connection is safe without a request: it may be about
// to send one.
const restTime = 100 * time.Millisecond

type connKey struct{}

// connContext puts the connection where requests find it.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, limited(c))
}

// connState hears from net/http when a connection waits for its next request.
func connState(c net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		limited(c).end()
	}
}

// limited returns the conn of a connLimiter, which TLS may be around.
func limited(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn)
}

// connOf returns the connection that a request came on.
func connOf(ctx context.Context) *conn { return ctx.Value(connKey{}).(*conn) }

// slots counts what may go on at one time.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// take returns false when all are taken.
func (s slots) take() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) give() { <-s }

func (s slots) taken() int { return len(s) }
