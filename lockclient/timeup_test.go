package lockclient_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/testcluster"
)

// A wait that took too long knows that the lock is held, or that Redis is silent.
func TestTimeUp(t *testing.T) {
	t.Parallel()
	r := testcluster.StartRedis(t)
	t.Cleanup(r.Heal)
	w := world{t: t, redis: r, ttl: 3 * time.Second}
	a, b := w.client("a"), w.client("b")
	hold(t, a, "demo")
	enough := errors.New("enough")
	wait := func(c *lockclient.Client, after time.Duration, opts ...lockclient.Option) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), after, enough)
		defer cancel()
		_, err := c.Acquire(ctx, "demo", opts...)
		if !errors.Is(err, enough) {
			t.Errorf("after %v: got %v, which does not wrap the cause", after, err)
		}
		return err
	}

	var held *lockclient.HeldError
	if err := wait(b, 500*time.Millisecond); !errors.As(err, &held) || held.Holder.Node != "a" || held.Position != 1 || errors.Is(err, lockclient.ErrUnavailable) {
		t.Errorf("held: got %v", err)
	}

	// Its last answer is older than a claim when time is up.
	silent, waits := make(chan error, 1), make(chan lockclient.Waiting, 9)
	go func() { silent <- wait(b, 3*time.Second, lockclient.OnWait(func(w lockclient.Waiting) { waits <- w })) }()
	within(t, 20*time.Second, "the first answer", waits)
	r.Stall()
	if err := within(t, 20*time.Second, "the end of the wait", silent); !errors.Is(err, lockclient.ErrUnavailable) || errors.Is(err, lockclient.ErrHeld) {
		t.Errorf("silent for longer than a claim: got %v, want ErrUnavailable", err)
	}

	// It has never heard anything.
	if err := wait(w.client("c"), 500*time.Millisecond); !errors.Is(err, lockclient.ErrUnavailable) || errors.Is(err, lockclient.ErrHeld) {
		t.Errorf("no answer: got %v, want ErrUnavailable", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Acquire(ctx, "demo"); !errors.Is(err, context.Canceled) || errors.Is(err, lockclient.ErrUnavailable) {
		t.Errorf("cancelled: got %v, want context.Canceled alone", err)
	}
}
