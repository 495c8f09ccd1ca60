package lockclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// passed is what another process makes of h.
func passed(t testing.TB, h lockclient.Handle) lockclient.Handle {
	t.Helper()
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var out lockclient.Handle
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// atOnce is for a holder that is dead already.
func atOnce() <-chan struct{} {
	dead := make(chan struct{})
	close(dead)
	return dead
}

// inRealWorlds runs f against redis-server and against the embedded one, over
// loopback. The time to live is so long that nothing expires.
func inRealWorlds(t *testing.T, f func(t *testing.T, w world)) {
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, world{t: t, redis: testcluster.StartRedis(t), ttl: 10 * time.Minute})
	})
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, world{t: t, redis: embedded{nil, miniredis.RunT(t).Addr()}, ttl: 10 * time.Minute})
	})
}

// A hold whose holder is dead goes to the next one when its Handle is released,
// not before, and whatever shape it has.
func TestHandle(t *testing.T) {
	inRealWorlds(t, func(t *testing.T, w world) {
		for shape, opts := range map[string][]lockclient.Option{
			"alone": nil, "shared": {lockclient.Shared()}, "slots": {lockclient.Slots(1)},
		} {
			a := w.client("a")
			l := hold(t, a, shape, opts...)
			h := passed(t, l.Handle())
			a.Abandon()
			next := later(t, w.client("b"), shape)
			dead, released := make(chan struct{}), make(chan error, 1)
			go func() { released <- h.Release(t.Context(), dead) }()
			select {
			case <-next:
				t.Fatalf("%s: granted before the holder was dead", shape)
			case err := <-released:
				t.Fatalf("%s: got %v before the holder was dead", shape, err)
			case <-time.After(300 * time.Millisecond):
			}
			close(dead)
			if err := within(t, 20*time.Second, "the release", released); err != nil {
				t.Error(err)
			}
			won := within(t, 20*time.Second, "the next", next)
			if won.err != nil || won.lock.Fence() <= l.Fence() {
				t.Errorf("%s: got %v, %v after fence %d", shape, won.lock, won.err, l.Fence())
			}
			// Now it is another's.
			if err := h.Release(t.Context(), atOnce()); err != nil {
				t.Errorf("%s: again: %v", shape, err)
			}
			if info := must[lockclient.Info](t)(w.client("c").Inspect(t.Context(), shape)); info.Holder == nil || info.Holder.Node != "b" {
				t.Errorf("%s: a hold that is over took another's: %+v", shape, info)
			}
		}
	})
}

// It ends with its context, and never by itself before the holder is dead.
func TestHandleEnds(t *testing.T) {
	r := testcluster.StartRedis(t)
	l := hold(t, world{t: t, redis: r, ttl: time.Minute}.client("a"), "demo")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- passed(t, l.Handle()).Release(ctx, nil) }()
	cancel()
	if err := within(t, 20*time.Second, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if !l.Valid() || l.Release(t.Context()) != nil {
		t.Error("the hold was released")
	}
	if err := (lockclient.Handle{}).Release(t.Context(), nil); err != nil {
		t.Errorf("the zero Handle: %v", err)
	}
}

// Redis is away when the holder dies: tried again until it is back, and no longer
// than the hold can last.
func TestHandleWithoutRedis(t *testing.T) {
	t.Parallel()
	r := testcluster.StartRedis(t)
	w := world{t: t, redis: r, ttl: time.Minute}
	a, b := w.client("a"), w.client("b")
	h := passed(t, hold(t, a, "demo").Handle())
	short := passed(t, hold(t, a, "short", lockclient.WithTTL(time.Second)).Handle())
	a.Abandon()
	next := later(t, b, "demo")
	r.Reset()
	r.Cut()
	released := make(chan error, 1)
	go func() { released <- h.Release(t.Context(), atOnce()) }()
	if err := short.Release(t.Context(), atOnce()); err == nil {
		t.Error("released without a Redis")
	}
	select {
	case err := <-released:
		t.Fatalf("got %v without a Redis", err)
	default:
	}
	r.Heal()
	if err := within(t, 40*time.Second, "the release", released); err != nil {
		t.Error(err)
	}
	if won := within(t, 40*time.Second, "the next", next); won.err != nil {
		t.Error(won.err)
	}
}

// Whatever a client needs to reach its Redis goes with the Handle, and none of
// it is printed. Its files need not be there any more.
func TestHandleTakesItsSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir)
	cert, key, password := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("hush-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t, false)
	_, port, _ := net.SplitHostPort(addr)
	startRedis(t, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert,
		"--user", "default", "off", "--user", "ann", "on", "~*", "&*", "+@all", ">hush-url", ">hush-file")
	for _, cfg := range []lockclient.Config{
		{URL: "rediss://ann:hush-url@" + addr},
		{URL: "rediss://x:wrong@" + addr, Username: "ann", PasswordFile: password},
	} {
		cfg.CAFile, cfg.CertFile, cfg.KeyFile, cfg.Prefix, cfg.Node = cert, cert, key, "p:", "a"
		a := must[*lockclient.Client](t)(lockclient.Start(cfg))
		h := passed(t, hold(t, a, "demo").Handle())
		a.Abandon()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			if text := fmt.Sprintf(verb, struct{ Hold lockclient.Handle }{h}); strings.Contains(text, "hush") || strings.Contains(text, "PRIVATE") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
		aside := dir + ".aside"
		if err := os.Rename(dir, aside); err != nil {
			t.Fatal(err)
		}
		if err := h.Release(t.Context(), atOnce()); err != nil {
			t.Error(err)
		}
		if err := os.Rename(aside, dir); err != nil {
			t.Fatal(err)
		}
		b := must[*lockclient.Client](t)(lockclient.Start(cfg))
		l, err := b.TryAcquire(t.Context(), "demo")
		if err != nil {
			t.Errorf("%s: %v", cfg.PasswordFile, err)
		} else if err := l.Release(t.Context()); err != nil {
			t.Error(err)
		}
		b.Close()
	}
}

// A client that dials by itself has nothing that another process could use.
func TestHandleOfItsOwnDial(t *testing.T) {
	w := world{t: t, redis: testcluster.StartRedis(t), ttl: time.Minute}
	c := w.client("a", func(cfg *lockclient.Config) { cfg.Dial = new(net.Dialer).DialContext })
	if h := hold(t, c, "demo").Handle(); !h.IsZero() || h.String() != "no hold" {
		t.Errorf("got %v, want the zero Handle", h)
	}
}
