package cluster

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/peerhq/peer/cluster/internal/address"
	"github.com/peerhq/peer/cluster/internal/port"
)

// DefaultPort is the gossip port, UDP and TCP.
const DefaultPort = address.DefaultPort

// DefaultLabel is the cluster label of who names none.
const DefaultLabel = "peer"

// Config is all that a peer needs to be a member. The zero value of a field
// means its default.
type Config struct {
	// Name is this peer's name, unique in the cluster. Default: the host name.
	Name string
	// Bind is the gossip port, HOST:PORT, UDP and TCP; HOST may be empty or a
	// wildcard, port 0 picks a free one. Default: 0.0.0.0:7946 with a key,
	// 127.0.0.1:7946 without.
	Bind string
	// Advertise is the address that others use, HOST or HOST:PORT or a
	// go-sockaddr template. Default: found from Bind and the routes.
	Advertise string
	// Insecure allows a Bind beyond loopback without a key.
	Insecure bool
	// Seeds are the addresses to join by: host, host:port, dns+host,
	// dnssrv+name. They are resolved anew for as long as the peer lives.
	Seeds []string
	// Label keeps clusters apart that meet by accident. Default: "peer".
	Label string
	// Keys encrypt gossip: AES keys of 16, 24 or 32 bytes. The first encrypts,
	// all decrypt. Empty: plain text.
	Keys [][]byte
	// KeyFile is where Keys came from. It is written anew when they change.
	// Default: none, and a change is lost with a restart.
	KeyFile string
	// KeyGrace is how long an old key lets absent members come back after a
	// rotation. Default: 72 h.
	KeyGrace time.Duration
	// DataDir keeps the members ever seen, so that a full outage heals without
	// seeds. Empty: nothing is kept.
	DataDir string
	// Tags describe this peer.
	Tags map[string]string
	// Services are announced with this peer.
	Services []Service
	// Version of the binary, shown to others.
	Version string
	// ForgetAfter drops a member that has been failed or left for so long; one
	// that is remembered from an earlier start, when this peer has run for so
	// long without seeing it. Default: 72 h.
	ForgetAfter time.Duration
	// Logger receives this package's lines and memberlist's, re-levelled, from
	// one goroutine. It may take its time: of the lines that come meanwhile,
	// 1,024 wait and the others are dropped, see Stats.LogDropped. Default: none.
	Logger hclog.Logger
	// OnEvent is called with every event, in order, and the newest View, which
	// shows it; from one goroutine of the cluster's, which may be running
	// before Start has returned. It may take its time, and must not call Close
	// or Leave. Default: none.
	OnEvent func(Event, *View)

	// The seams to the machine; tests set them.

	// Network is where the gossip port lives. Default: the real one.
	Network Network
	// Resolver looks up seeds and an Advertise that are names. Default:
	// net.DefaultResolver.
	Resolver Resolver
	// FS is where the data dir lives. Default: the real one.
	FS FS
	// Now is the wall clock: it dates the instance and the data dir's entries,
	// nothing else. Default: time.Now.
	Now func() time.Time
	// Rand draws the instance. Default: crypto/rand.
	Rand io.Reader
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if c.Bind == "" {
		c.Bind = fmt.Sprintf("127.0.0.1:%d", DefaultPort)
		if len(c.Keys) > 0 {
			c.Bind = fmt.Sprintf("0.0.0.0:%d", DefaultPort)
		}
	}
	if c.Label == "" {
		c.Label = DefaultLabel
	}
	if c.ForgetAfter == 0 {
		c.ForgetAfter = 72 * time.Hour
	}
	if c.KeyGrace == 0 {
		c.KeyGrace = 72 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Network == nil {
		c.Network = port.Machine()
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.FS == nil {
		c.FS = Disk()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c
}

// Validate reports every mistake in c at once, each with its fix. Start calls
// it; a program that only checks a configuration may call it alone.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if err := validateName(c.Name); err != nil {
		errs = append(errs, err)
	}
	if err := validateLabel(c.Label); err != nil {
		errs = append(errs, err)
	}
	if err := validateTags(c.Tags); err != nil {
		errs = append(errs, err)
	}
	for _, s := range c.Seeds {
		if err := ValidateSeed(s); err != nil {
			errs = append(errs, err)
		}
	}
	for i, k := range c.Keys {
		if n := len(k); n != 16 && n != 24 && n != 32 {
			errs = append(errs, fmt.Errorf("gossip key %d has %d bytes, want 32 (or 16, 24); make one with: peer keygen", i+1, n))
		}
	}
	if c.ForgetAfter < 0 {
		errs = append(errs, fmt.Errorf("forget after %s: must not be negative", c.ForgetAfter))
	}
	if c.KeyGrace < 0 {
		errs = append(errs, fmt.Errorf("key grace %s: must not be negative", c.KeyGrace))
	}
	if _, _, err := address.SplitAdvertise(c.Advertise); err != nil {
		errs = append(errs, err)
	}
	bind, err := address.ParseBind(c.Bind)
	if err != nil {
		errs = append(errs, err)
	} else if err := c.checkExposure(bind); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ValidateSeed says whether s is a seed that Start accepts: HOST, HOST:PORT,
// an IP address with or without a port (IPv6 with a port in brackets),
// dns+HOST, dns+HOST:PORT or dnssrv+_SERVICE._PROTO.NAME. It asks no DNS.
func ValidateSeed(s string) error {
	_, err := address.ParseSeed(s, DefaultPort)
	return err
}

// checkExposure refuses an open gossip port beyond loopback: one forged packet
// poisons an unencrypted memberlist and a few hundred connections fill its
// memory.
func (c Config) checkExposure(bind netip.AddrPort) error {
	if len(c.Keys) > 0 || c.Insecure || bind.Addr().IsLoopback() {
		return nil
	}
	return fmt.Errorf("bind %s without a gossip key: anybody who reaches the port could forge members; make a key with `peer keygen` and give it with --encrypt-file, or bind 127.0.0.1, or pass --gossip-insecure on a network you trust", bind)
}
