package lockclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
)

// refusedWith acquires demo, which is refused at once with that cause and words.
func refusedWith(t *testing.T, c *lockclient.Client, cause lockclient.Cause, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.Acquire(ctx, "demo")
	var u *lockclient.UnavailableError
	if !errors.As(err, &u) || u.Cause != cause {
		t.Errorf("got %v, want %q", err, cause)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q in it", err, w)
		}
	}
}

// A Redis that is full of clients says so; it does not look like a connection that
// breaks.
func TestTooManyClients(t *testing.T) {
	t.Parallel()
	s := startRedis(t, "--maxclients", "3")
	var others []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "PING\r\n")
		if line, _ := bufio.NewReader(conn).ReadString('\n'); line != "+PONG\r\n" {
			t.Fatalf("got %q, want a PONG", line)
		}
		others = append(others, conn)
	}
	c := s.client(t)
	for range 3 {
		refusedWith(t, c, lockclient.CauseClients, "raise maxclients")
	}
	refusedWith(t, s.client(t, func(cfg *lockclient.Config) { cfg.URL = "rediss://" + s.addr }), lockclient.CauseClients)
	for _, conn := range others {
		conn.Close()
	}
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var l *lockclient.Lock
		if l, err = c.TryAcquire(t.Context(), "demo"); err == nil { // a process of its own: there is nothing to wait on
			l.Release(t.Context())
			return
		}
	}
	t.Errorf("after the others left: %v", err)
}

func TestNoSuchDatabase(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	refusedWith(t, s.client(t, func(cfg *lockclient.Config) { cfg.URL += "/99" }), lockclient.CauseDatabase, "no database of this number", "redis url")
}

// What another program has put where a lock belongs is told at once, to who comes
// and to who waits already, with the key.
func TestForeignValue(t *testing.T) {
	for name, put := range map[string]func(ctx context.Context, w world) error{
		"a string": func(ctx context.Context, w world) error {
			return w.admin().Set(ctx, "peer:{demo}", "something", 0).Err()
		},
		"a hash": func(ctx context.Context, w world) error {
			_, err := w.admin().TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Del(ctx, "peer:{demo}")
				p.HSet(ctx, "peer:{demo}", "some", "thing")
				return nil
			})
			return err
		},
		"a queue of another kind": func(ctx context.Context, w world) error {
			_, err := w.admin().TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Del(ctx, "peer:{demo}", "peer:{demo}:q")
				p.Set(ctx, "peer:{demo}:q", "something", 0)
				return nil
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, w world) {
				w = w.steady()
				a, b := w.client("a"), w.client("b")
				hold(t, a, "demo")
				next := later(t, b, "demo")
				if err := put(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				refusedWith(t, w.client("c"), lockclient.CauseWrongType, "another program's value", "delete the key peer:{demo}")
				won := within(t, 10*time.Second+20*w.slack, "the end of the wait", next)
				var u *lockclient.UnavailableError
				if !errors.As(won.err, &u) || u.Cause != lockclient.CauseWrongType {
					t.Errorf("who waited: got %v, want %q", won.err, lockclient.CauseWrongType)
				}
				if st := b.Stats(); !st.Up || st.Waiting != 0 {
					t.Errorf("up %v, waiting %d, want true, 0", st.Up, st.Waiting)
				}
			})
		})
	}
}

// A proxy that passes all but subscriptions: who would wait is told, for it could
// not be called; a try works.
func TestProxyWithoutPubSub(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	proxied := func(cfg *lockclient.Config) {
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return withoutSubscribe(conn), nil
		}
	}
	c := s.client(t, proxied)
	hold(t, c, "demo")
	refusedWith(t, s.client(t, proxied), lockclient.CauseCommand, "it does not know the command SUBSCRIBE", "a proxy")
	if _, err := c.TryAcquire(t.Context(), "demo"); !errors.Is(err, lockclient.ErrHeld) {
		t.Errorf("a try: got %v, want ErrHeld", err)
	}
}

// withoutSubscribe is server behind a proxy that does not know SUBSCRIBE.
func withoutSubscribe(server net.Conn) net.Conn {
	near, far := net.Pipe()
	go func() {
		io.Copy(far, server)
		far.Close()
	}()
	go func() {
		defer server.Close()
		r := bufio.NewReader(far)
		for {
			command, words, err := readCommand(r)
			if err != nil {
				return
			}
			if strings.EqualFold(words[0], "subscribe") {
				fmt.Fprintf(far, "-ERR unknown command '%s'\r\n", words[0])
				continue
			}
			io.WriteString(server, command)
		}
	}()
	return near
}

// readCommand reads one command of RESP: as it came, and its words.
func readCommand(r *bufio.Reader) (raw string, words []string, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", nil, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	raw = line
	for range n {
		if err != nil {
			return "", nil, err
		}
		if line, err = r.ReadString('\n'); err != nil {
			return "", nil, err
		}
		var size int
		if size, err = strconv.Atoi(strings.TrimSpace(line[1:])); err != nil {
			return "", nil, err
		}
		word := make([]byte, size+2)
		_, err = io.ReadFull(r, word)
		raw += line + string(word)
		words = append(words, string(word[:size]))
	}
	return raw, words, err
}
