package lockclient

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A quietError keeps a client from a Redis that started a moment ago.
type quietError struct{ up, quiet time.Duration }

func (e *quietError) Error() string {
	return fmt.Sprintf("up for %v, and for %v no lock is granted", e.up, e.quiet)
}

// keepQuiet refuses a new connection to a Redis that has not been up for quiet:
// what it granted before it started may still be held, and it may not know. A
// Redis that does not say since when it is up is not refused.
func keepQuiet(ctx context.Context, cn *redis.Conn, quiet time.Duration, gate *dialGate) error {
	info, err := cn.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	up, ok := uptime(info)
	if !ok || up >= quiet {
		return nil
	}
	err = &quietError{up, quiet}
	gate.failed(err)
	return err
}

// uptime is the least that a Redis has been up by what INFO says: that is the
// difference of two times in whole seconds, and up to a second too much.
func uptime(info string) (time.Duration, bool) {
	_, rest, ok := strings.Cut(info, "uptime_in_seconds:")
	if !ok {
		return 0, false
	}
	line, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.ParseUint(line, 10, 32)
	return time.Duration(max(n, 1)-1) * time.Second, err == nil
}
