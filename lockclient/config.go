package lockclient

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Bounds of a time to live.
const (
	DefaultTTL = 15 * time.Second
	MinTTL     = 100 * time.Millisecond
	MaxTTL     = 24 * time.Hour
)

// Config configures a Client. The zero value of every field but URL means its
// default.
type Config struct {
	// URL names the Redis: redis://[user:password@]host:port[/db], or
	// unix:///path[?db=n]; redis+sentinel://host,host/NAME[/db] is the primary
	// that Sentinels know as NAME (with sentinel_username and sentinel_password
	// as parameters), redis+cluster://host,host a Cluster of Redis 7 or later.
	// rediss in place of redis is TLS. Required. It is never logged.
	URL string
	// TLS is used when URL says so. Default: the system's certificate
	// authorities.
	TLS *tls.Config
	// CAFile, CertFile and KeyFile are for TLS too, in place of the field of that
	// name: the authorities that sign certificates of Redis, in place of the
	// system's; a certificate of one's own, for a Redis that wants one, and its
	// key. A key that others may read is refused.
	CAFile, CertFile, KeyFile string
	// Username goes with PasswordFile, before one of URL. Default: URL's.
	Username string
	// PasswordFile holds the password; a last newline is dropped. A file that
	// others may read is refused. Default: URL's password.
	PasswordFile string
	// Prefix starts every key and channel, so that clusters can share a Redis.
	// No braces, spaces or control bytes. Default "peer:".
	Prefix string
	// Node, PID and Command tell people who holds a lock. Command is without
	// arguments. Default: the host's name, this process, its program's name.
	Node    string
	PID     int
	Command string
	// TTL is how long a lock outlives a holder that is gone. Default 15 s.
	TTL time.Duration
	// WaitReplicas is how many replicas must confirm a grant before it counts;
	// when they do not within a quarter of the time to live it is given back,
	// and ErrNotReplicated returned. It makes it less likely that a failover
	// forgets a grant, and no more: a replica that did not confirm may be the one
	// that is promoted. It costs two round trips. Default 0.
	WaitReplicas int
	// QuietAfterStart is how long after Redis has started no lock is granted. As
	// long as the longest time to live in use, it keeps two from holding a lock
	// when a Redis that lost its data is back before the first one's time is
	// over. All clients need it, and +info as a right. Default 0.
	QuietAfterStart time.Duration
	// Dial opens connections; with it the client runs on any network, an
	// in-memory one included. Default: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger is told of Redis going and coming back. Default: none.
	Logger hclog.Logger
	// OnEvent is called for every event, in order, from one goroutine. It may
	// use the client, but must not call Close. Default: none.
	OnEvent func(Event)
	// Rand is the source of the client's identity. Default crypto/rand.Reader.
	Rand io.Reader

	files *contents // what the files above contain
	dials bool      // Dial is the default
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = "peer:"
	}
	if c.Node == "" {
		c.Node, _ = os.Hostname()
		if c.Node == "" {
			c.Node = "localhost"
		}
	}
	if c.PID == 0 {
		c.PID = os.Getpid()
	}
	if c.Command == "" && len(os.Args) > 0 {
		c.Command = filepath.Base(os.Args[0])
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.Dial == nil {
		d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
		c.Dial, c.dials = d.DialContext, true
	}
	if c.files == nil {
		c.files = new(contents)
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// Validate reports the mistakes for which Start would refuse c, joined. It reads
// the password file and dials nothing.
func (c Config) Validate() error {
	c = c.withDefaults()
	err := c.validate()
	if c.URL != "" {
		_, bad := options(c)
		err = errors.Join(err, bad)
	}
	return err
}

// validate returns all mistakes in c, which has its defaults, joined.
func (c Config) validate() error {
	var errs []error
	if c.URL == "" {
		errs = append(errs, errors.New("no redis url: give one such as redis://127.0.0.1:6379"))
	}
	if strings.ContainsFunc(c.Prefix, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '{' || r == '}' }) {
		errs = append(errs, fmt.Errorf("prefix %q: braces, spaces and control characters are not allowed in it", c.Prefix))
	}
	if err := checkTTL(c.TTL); err != nil {
		errs = append(errs, err)
	}
	if c.QuietAfterStart < 0 || c.WaitReplicas < 0 {
		errs = append(errs, errors.New("a quiet period or a number of replicas cannot be negative"))
	}
	return errors.Join(errs...)
}

func checkTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("%w: %v: use %v to %v", ErrBadTTL, ttl, MinTTL, MaxTTL)
	}
	return nil
}

// meta is what a client writes beside its id into a lock, for people to read.
type meta struct {
	Node    string `json:"node"`
	PID     int    `json:"pid"`
	Command string `json:"cmd,omitempty"`
	TTL     int64  `json:"ttl_ms"`
	Shared  bool   `json:"shared,omitempty"`
}

func (c Config) meta(ttl time.Duration, shared bool) string {
	b, err := json.Marshal(meta{Node: c.Node, PID: c.PID, Command: c.Command, TTL: ttl.Milliseconds(), Shared: shared})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return string(b)
}

// An Option changes one call of Acquire, TryAcquire or Do.
type Option func(*request)

// WithTTL sets how long the lock outlives a holder that is gone, instead of
// Config.TTL: 100 ms to 24 h.
func WithTTL(ttl time.Duration) Option { return func(r *request) { r.ttl = ttl } }

// WithCommand tells people what is done under the lock, instead of
// Config.Command. Give no arguments: they may be secret.
func WithCommand(command string) Option { return func(r *request) { r.command = &command } }

// WithPID tells people for which process the lock is taken, instead of Config.PID.
func WithPID(pid int) Option { return func(r *request) { r.pid = pid } }

// Shared has the lock shared with others who also want it shared, as readers do;
// one that wants it alone excludes them all. They queue in one order: who wants
// it alone does not wait for readers that come later.
func Shared() Option { return func(r *request) { r.limit = "0" } }

// Slots makes the lock a semaphore: at most n hold it at one time. All who use
// one should give the same n.
func Slots(n int) Option { return func(r *request) { r.limit = strconv.Itoa(max(n, 1)) } }

// OnWait has f called when the lock is not free, and again whenever the place
// in its queue or its holder has changed. f runs on the goroutine that calls
// Acquire, and delays it.
func OnWait(f func(Waiting)) Option { return func(r *request) { r.onWait = f } }

// Waiting tells where a waiter stands.
type Waiting struct {
	Position int    // in the queue, from 1
	Holder   Holder // who has the lock

	c *Client
	r *request
}
