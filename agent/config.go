package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/lockclient"
)

// DefaultHTTPAddr is where the local HTTP endpoint listens.
const DefaultHTTPAddr = "127.0.0.1:7980"

// Mode says what kind of process an agent runs in.
type Mode string

const (
	// ModeAgent is one agent on its host.
	ModeAgent Mode = "agent"
	// ModeDev is one of several agents in one process with an embedded Redis.
	ModeDev Mode = "dev"
)

// Config is all that an agent needs. Its YAML form is peer.yaml.
type Config struct {
	Name        string            `yaml:"name"`         // default: the host name
	Bind        string            `yaml:"bind"`         // gossip HOST:PORT; default 0.0.0.0:7946 with a key, 127.0.0.1:7946 without
	Advertise   string            `yaml:"advertise"`    // address that others use; default: found from bind and the routes
	HTTP        HTTPConfig        `yaml:"http"`         // the local endpoint
	Join        []string          `yaml:"join"`         // seed addresses
	Cluster     string            `yaml:"cluster"`      // label that keeps clusters apart; default "peer"
	DataDir     string            `yaml:"data_dir"`     // keeps the members ever seen; default: nothing is kept
	EncryptFile string            `yaml:"encrypt_file"` // gossip keys, one base64 line each, first is primary
	Insecure    bool              `yaml:"gossip_insecure"`
	ForgetAfter time.Duration     `yaml:"forget_after"` // drops a member gone for so long; default 72h
	KeyGrace    time.Duration     `yaml:"key_grace"`    // how long a rotated gossip key lets absent members back in; default 72h
	Redis       RedisConfig       `yaml:"redis"`
	Tags        map[string]string `yaml:"tags"`
	Services    []ServiceConfig   `yaml:"services"` // what runs beside this agent
	ZoneTag     string            `yaml:"zone_tag"` // peers whose tag of this name is as ours are handed out first; default: none
	DNS         DNSConfig         `yaml:"dns"`
	Consul      ConsulConfig      `yaml:"consul"`
	Log         LogConfig         `yaml:"log"`
	Ready       ReadyConfig       `yaml:"ready"`

	Mode    Mode   `yaml:"-"` // default ModeAgent
	Version string `yaml:"-"` // of the binary
	Seams   Seams  `yaml:"-"`
}

// HTTPConfig is the local endpoint.
type HTTPConfig struct {
	Addr         string   `yaml:"addr"`          // HOST:PORT; default 127.0.0.1:7980, "none" for no TCP listener
	Socket       string   `yaml:"socket"`        // path of a unix socket; default none
	TokenFile    string   `yaml:"token_file"`    // bearer token, in a file that only its owner reads
	AllowedHosts []string `yaml:"allowed_hosts"` // Host headers accepted beside localhost and the address itself
	Insecure     bool     `yaml:"insecure"`      // allows an address beyond loopback without token and TLS
	TLS          HTTPTLS  `yaml:"tls"`
}

// HTTPTLS serves the endpoint over TLS.
type HTTPTLS struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"` // clients must show a certificate of this CA
}

// RedisConfig is the shared Redis that locks live in. No URL: no locks.
type RedisConfig struct {
	URL          string `yaml:"url"` // redis://, rediss://, unix://
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	Prefix       string `yaml:"prefix"` // of the keys; default "peer:"
	// WaitReplicas is how many replicas must confirm a grant; default 0.
	WaitReplicas int `yaml:"wait_replicas"`
	// QuietAfterStart is how long a Redis that has just started grants nothing;
	// the same for all that use it. Default 0.
	QuietAfterStart time.Duration `yaml:"quiet_after_start"`
	TLS             RedisTLS      `yaml:"tls"`
}

// RedisTLS is for a rediss:// URL.
type RedisTLS struct {
	CAFile   string `yaml:"ca_file"`   // who signed Redis's certificate; default: the system's authorities
	CertFile string `yaml:"cert_file"` // a certificate of our own, where Redis wants one
	KeyFile  string `yaml:"key_file"`  // and its key, in a file that only its owner reads
}

// Client returns what a lockclient.Client of this Redis needs to know, but for
// who it is.
func (r RedisConfig) Client() lockclient.Config {
	return lockclient.Config{
		URL:             r.URL,
		Username:        r.Username,
		PasswordFile:    r.PasswordFile,
		Prefix:          r.Prefix,
		WaitReplicas:    r.WaitReplicas,
		QuietAfterStart: r.QuietAfterStart,
		CAFile:          r.TLS.CAFile,
		CertFile:        r.TLS.CertFile,
		KeyFile:         r.TLS.KeyFile,
	}
}

// LogConfig is what the agent writes to stderr.
type LogConfig struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error; default info
	Format string `yaml:"format"` // text or json; default text
}

// ReadyConfig says what readiness depends on besides gossip.
type ReadyConfig struct {
	RequireRedis bool `yaml:"require_redis"` // default false: without Redis the agent is ready and says so
}

// Seams replaces the machine under an agent. The zero value is the real one;
// tests put a simulated network, file system and clock here.
type Seams struct {
	Network   cluster.Network
	Listen    func(ctx context.Context, network, addr string) (net.Listener, error)
	RedisDial func(ctx context.Context, network, addr string) (net.Conn, error)
	CheckDial func(ctx context.Context, network, addr string) (net.Conn, error) // to the services that are checked
	FS        cluster.FS
	Resolver  cluster.Resolver // of seeds and advertised names
	Now       func() time.Time
	Rand      io.Reader
	Logger    hclog.Logger
	// LogDropped returns how many lines were dropped behind Logger. Default: none.
	LogDropped func() uint64
}

// DefaultConfig returns the configuration of an agent that is told nothing.
func DefaultConfig() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name, _ = os.Hostname()
	}
	if c.HTTP.Addr == "" {
		c.HTTP.Addr = DefaultHTTPAddr
	}
	if c.Cluster == "" {
		c.Cluster = cluster.DefaultLabel
	}
	if c.Log.Level == "" {
		c.Log.Level = "info"
	}
	if c.Log.Format == "" {
		c.Log.Format = "text"
	}
	if c.Mode == "" {
		c.Mode = ModeAgent
	}
	if c.Seams.Listen == nil {
		var lc net.ListenConfig
		c.Seams.Listen = lc.Listen
	}
	if c.Seams.Now == nil {
		c.Seams.Now = time.Now
	}
	return c
}

// Validate reports every mistake in c at once, each with its fix. It reads the
// files that c names, so that what passes here also starts.
func (c Config) Validate() error {
	_, err := c.withDefaults().resolve()
	return err
}

// resolved is a configuration whose files have been read.
type resolved struct {
	keys  [][]byte
	token []byte
	tls   *tls.Config

	services []service
}

func (c Config) resolve() (resolved, error) {
	var r resolved
	var errs []error
	if c.EncryptFile != "" {
		keys, err := cluster.ReadKeyFile(c.EncryptFile)
		if err != nil {
			errs = append(errs, err)
		}
		r.keys = keys
	}
	cc := c.cluster(r)
	if c.EncryptFile != "" && len(r.keys) == 0 {
		cc.Insecure = true // the unreadable key file is the mistake to report, not what follows from it
	}
	if err := cc.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.HTTP.TokenFile != "" {
		token, err := readSecret(c.HTTP.TokenFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("http.token_file: %w", err))
		}
		r.token = token
	}
	if err := c.checkHTTP(len(r.token) > 0); err != nil {
		errs = append(errs, err)
	}
	var err error
	if r.tls, err = loadTLS(c.HTTP.TLS); err != nil {
		errs = append(errs, err)
	}
	if c.Redis.URL != "" {
		if err := c.locks().Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	services, err := c.services()
	if err != nil {
		errs = append(errs, err)
	}
	r.services = services
	if err := c.DNS.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Consul.validate(); err != nil {
		errs = append(errs, err)
	}
	if hclog.LevelFromString(c.Log.Level) == hclog.NoLevel {
		errs = append(errs, fmt.Errorf("log.level %q: want trace, debug, info, warn or error", c.Log.Level))
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		errs = append(errs, fmt.Errorf("log.format %q: want text or json", c.Log.Format))
	}
	return r, errors.Join(errs...)
}

// checkHTTP refuses an endpoint beyond loopback that anybody could command.
func (c Config) checkHTTP(token bool) error {
	if c.HTTP.Addr == "none" {
		if c.HTTP.Socket == "" {
			return errors.New("http.addr is none and http.socket is empty: nothing could ask this agent; set one of them")
		}
		return nil
	}
	host, _, err := net.SplitHostPort(c.HTTP.Addr)
	if err != nil {
		return fmt.Errorf("http.addr %q: want HOST:PORT, for example %s", c.HTTP.Addr, DefaultHTTPAddr)
	}
	if (c.HTTP.TLS.CertFile == "") != (c.HTTP.TLS.KeyFile == "") {
		return errors.New("http.tls: cert_file and key_file go together")
	}
	if c.HTTP.TLS.ClientCAFile != "" && c.HTTP.TLS.CertFile == "" {
		return errors.New("http.tls: client_ca_file needs cert_file and key_file")
	}
	if isLoopback(host) {
		return nil
	}
	if c.Mode == ModeDev {
		return fmt.Errorf("http.addr %s: a development cluster listens on loopback only", c.HTTP.Addr)
	}
	if c.HTTP.Insecure || (token && c.HTTP.TLS.CertFile != "") {
		return nil
	}
	return fmt.Errorf("http.addr %s is beyond loopback: set http.token_file and http.tls, or listen on 127.0.0.1, or pass --http-insecure on a network you trust", c.HTTP.Addr)
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// readSecret reads a one-line secret from a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600 %s", path, fi.Mode().Perm(), path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return []byte(s), nil
}

func (c Config) cluster(r resolved) cluster.Config {
	return cluster.Config{
		Name:        c.Name,
		Bind:        c.Bind,
		Advertise:   c.Advertise,
		Insecure:    c.Insecure,
		Seeds:       c.Join,
		Label:       c.Cluster,
		Keys:        r.keys,
		KeyFile:     c.EncryptFile,
		DataDir:     c.DataDir,
		Tags:        c.Tags,
		Version:     c.Version,
		ForgetAfter: c.ForgetAfter,
		KeyGrace:    c.KeyGrace,
		Network:     c.Seams.Network,
		FS:          c.Seams.FS,
		Resolver:    c.Seams.Resolver,
		Now:         c.Seams.Now,
		Rand:        c.Seams.Rand,
	}
}

func (c Config) locks() lockclient.Config {
	l := c.Redis.Client()
	l.Node, l.PID = c.Name, os.Getpid()
	l.Dial, l.Rand = c.Seams.RedisDial, c.Seams.Rand
	return l
}
