package lockclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	dialTimeout = 5 * time.Second
	// A call without a deadline of its own ends after the time to live, within
	// these bounds: a shorter one would refuse round trips that a lock survives.
	minCallTimeout = 5 * time.Second
	maxCallTimeout = 30 * time.Second
)

// quiet keeps go-redis from writing to standard error; what it has to say also
// comes back as an error. Its logger is one for the whole process.
var quiet = sync.OnceFunc(func() { redis.SetLogger(&logging.VoidLogger{}) })

// options reads what cfg, which has its defaults, says of Redis: its URL and its
// files.
func options(cfg Config) (*redis.UniversalOptions, error) {
	opt, err := parseURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("parse redis url: %w", err)
	}
	if opt.TLSConfig != nil && cfg.TLS != nil {
		opt.TLSConfig = cfg.TLS
	} else if err := cfg.readTLS(opt.TLSConfig); err != nil {
		return nil, err
	}
	if cfg.Username != "" {
		opt.Username = cfg.Username
	}
	if err := cfg.files.readPassword(cfg.PasswordFile); err != nil {
		return nil, err
	}
	if cfg.files.Password != nil {
		opt.Password = *cfg.files.Password
	}
	cfg.files.read = true
	opt.Protocol = 2 // nothing of RESP3 is used, and each reply is cheaper to read
	opt.ContextTimeoutEnabled = true
	opt.MaxRetries = -1 // retries are ours, with a deadline of their own
	opt.DialerRetries = 1
	opt.DialTimeout = dialTimeout
	opt.ReadTimeout = min(max(cfg.TTL, minCallTimeout), maxCallTimeout)
	opt.WriteTimeout = opt.ReadTimeout
	opt.PoolTimeout = opt.ReadTimeout
	opt.PipelinePoolSize = -1         // batches share the connections
	opt.ConnMaxIdleTime = time.Minute // before something between forgets them
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return opt, nil
}

// connect makes the two clients of cfg without touching the network: one for
// calls and the subscription, and a small one for renewals, which no load on
// the first can hold up. lines ends when no connection is wanted any more, for
// go-redis dials with a context of its own.
func connect(lines context.Context, cfg Config, gate *dialGate, qs *questions) (calls, renewals redis.UniversalClient, addr string, err error) {
	quiet()
	opt, err := options(cfg)
	if err != nil {
		return nil, nil, "", err
	}
	qs.timeout = opt.ReadTimeout
	dial, tlsConfig := cfg.Dial, opt.TLSConfig
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		life, ear := ctx.Value(lifeKey{}).(context.Context)
		if !ear {
			life = lines
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		conn, err := gate.dial(ctx, func() (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			conn = newDoorway(conn)
			if tlsConfig != nil {
				cfg := tlsConfig
				if cfg.ServerName == "" {
					cfg = cfg.Clone()
					cfg.ServerName, _, _ = net.SplitHostPort(addr)
				}
				secure := tls.Client(conn, cfg)
				if err := secure.HandshakeContext(ctx); err != nil {
					conn.Close()
					if _, said := replyIn(err); said {
						return nil, err
					}
					return nil, &handshakeError{err}
				}
				conn = secure
			}
			return newLine(life, conn, gate, qs, !ear), nil
		})
		if err != nil {
			// A pool that counts errors would begin to dial by itself.
			return deadLine{err}, nil
		}
		return conn, nil
	}
	opt.TLSConfig = nil // the dialer sees to it
	small := *opt
	small.PoolSize, small.MaxIdleConns = maxFlights, 2
	if quiet := cfg.QuietAfterStart; quiet > 0 {
		// Renewals may go on: they do not bring back what is gone.
		opt.OnConnect = func(ctx context.Context, cn *redis.Conn) error { return keepQuiet(ctx, cn, quiet, gate) }
	}
	return redis.NewUniversalClient(opt), redis.NewUniversalClient(&small), address(opt), nil
}

// A handshakeError is one of TLS, whatever it looks like. It does not unwrap:
// go-redis would throw it away and keep what is in it.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "tls handshake: " + e.err.Error() }
