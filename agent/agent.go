package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerhq/peer/agent/checks"
	"github.com/peerhq/peer/agent/dns"
	"github.com/peerhq/peer/agent/httpapi"
	"github.com/peerhq/peer/cluster"
	"github.com/peerhq/peer/lockclient"
	"github.com/peerhq/peer/selector"
)

// Agent is a running agent, made by Start. All methods may be called from any
// goroutine.
//
// Its own goroutines are the announcer of this host's services and the one of a
// Leave asked for over HTTP; the rest belong to the cluster, the lock client,
// the checks and the endpoint.
type Agent struct {
	cfg     Config
	logger  hclog.Logger
	started time.Time

	cluster  *cluster.Cluster
	selector *selector.Selector[endpoint]
	locks    *lockclient.Client // nil without a Redis
	leases   *leases            // as locks
	locking  *lockMetrics       // as locks
	events   *ring
	http     *httpapi.Server
	httpAddr string
	socket   string
	metrics  *prometheus.Registry
	served   served

	registry  *registry
	announcer *announcer
	checks    *checks.Checker
	dns       *dns.Server // nil without
	dnsAddr   string

	consul     *httpapi.Server // nil without
	consulAddr string

	rotating sync.Mutex
	known    *catalog                                // of the newest View that the selectors have
	services map[string]*selector.Selector[endpoint] // of those services that were asked for
	filled   time.Time                               // when the selectors were

	phase atomic.Value  // string: starting, alive, leaving, left
	ended atomic.Bool   // Stop or Kill has begun
	err   error         // of the stop
	done  chan struct{} // closed when the stop is over
	asked chan struct{} // closed when a leave asked for over HTTP is over
	leave sync.Once
}

// stopTimeout is how long a graceful stop may take.
const stopTimeout = 5 * time.Second

// Start runs an agent. Every mistake in cfg is reported at once; a port that
// cannot be had is an error; a seed or a Redis out of reach is not: the agent
// is up, and says so in its status.
func Start(cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	r, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg:     cfg,
		logger:  cfg.Seams.Logger,
		started: cfg.Seams.Now(),
		events:  newRing(cfg.Seams.Now),
		done:    make(chan struct{}),
		asked:   make(chan struct{}),
	}
	if a.logger == nil {
		a.logger = hclog.NewNullLogger()
	}
	a.phase.Store("starting")
	a.selector = a.newSelector()
	a.services = map[string]*selector.Selector[endpoint]{}
	a.registry = newRegistry(cfg.Seams.FS, cfg.DataDir, cfg.Tags, r.services, a.logger.Named("services"))
	if err := a.open(r); err != nil {
		a.kill()
		return nil, err
	}
	a.phase.Store("alive")
	a.logger.Info("agent is up", "member", cfg.Name, "addr", a.GossipAddr(), "http", a.HTTPAddr())
	return a, nil
}

// open starts the parts, the endpoint's listeners first: a port in use is found
// out before anybody is told of this peer.
func (a *Agent) open(r resolved) error {
	hc, err := a.listen(r)
	if err != nil {
		return err
	}
	closeListeners := func() {
		for _, l := range []net.Listener{hc.TCP, hc.Socket} {
			if l != nil {
				l.Close()
			}
		}
	}
	if a.cfg.Redis.URL != "" {
		lc := a.cfg.locks()
		lc.Logger = a.logger.Named("lock")
		lc.OnEvent = a.onLock
		a.locking = newLockMetrics()
		if a.locks, err = lockclient.Start(lc); err != nil {
			closeListeners()
			return err
		}
		a.leases = newLeases(a.locks, a.cfg.Seams.Rand, a.locking.observe)
	}
	cc := a.cfg.cluster(r)
	cc.Logger = a.logger.Named("gossip")
	cc.OnEvent = a.onMember
	cc.Services = a.registry.current()
	if a.cluster, err = cluster.Start(cc); err != nil {
		closeListeners()
		return err
	}
	a.rotate(a.cluster.View())
	if err := a.check(); err != nil {
		closeListeners()
		return err
	}
	if err := a.startDNS(); err != nil {
		closeListeners()
		return err
	}
	if err := a.startConsul(r); err != nil {
		closeListeners()
		return err
	}
	a.metrics = a.newMetrics()
	hc.Gatherer = a.metrics
	if a.consul != nil {
		hc.Gatherer = prometheus.Gatherers{a.metrics, a.consul.Metrics()}
	}
	if a.http, err = httpapi.Start(hc, a); err != nil {
		closeListeners()
		return err
	}
	return nil
}

// listen opens the endpoint's listeners.
func (a *Agent) listen(r resolved) (httpapi.Config, error) {
	hc := httpapi.Config{
		Addr:         a.cfg.HTTP.Addr,
		AllowedHosts: a.cfg.HTTP.AllowedHosts,
		Token:        r.token,
		TLS:          r.tls,
		Version:      a.cfg.Version,
		Logger:       a.logger.Named("http"),
	}
	if a.cfg.HTTP.Addr != "none" {
		l, err := a.cfg.Seams.Listen(context.Background(), "tcp", a.cfg.HTTP.Addr)
		if err != nil {
			return hc, explainListen("http address", a.cfg.HTTP.Addr, "--http", err)
		}
		hc.TCP = l
		a.httpAddr = l.Addr().String()
	} else {
		hc.Addr = ""
	}
	if path := a.cfg.HTTP.Socket; path != "" {
		l, err := a.listenSocket(path)
		if err != nil {
			if hc.TCP != nil {
				hc.TCP.Close()
			}
			return hc, err
		}
		hc.Socket = l
		a.socket = path
	}
	return hc, nil
}

// listenSocket opens the unix socket for its owner and group, in the place of
// one that a crashed agent left behind.
func (a *Agent) listenSocket(path string) (net.Listener, error) {
	l, err := a.cfg.Seams.Listen(context.Background(), "unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if c, dialErr := net.DialTimeout("unix", path, time.Second); dialErr == nil {
			c.Close()
			return nil, explainListen("socket", path, "--socket", err)
		}
		if fi, statErr := os.Lstat(path); statErr == nil && fi.Mode().Type() == fs.ModeSocket {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("remove the socket that an earlier agent left: %w", err)
			}
		}
		l, err = a.cfg.Seams.Listen(context.Background(), "unix", path)
	}
	if err != nil {
		return nil, explainListen("socket", path, "--socket", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket %s to its group: %w", path, err)
	}
	return l, nil
}

func explainListen(what, addr, flag string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s %s is in use: another agent may run here; stop it or choose another with %s: %w", what, addr, flag, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s %s is not this host's: choose another with %s: %w", what, addr, flag, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: not allowed; choose another with %s: %w", what, addr, flag, err)
	}
	return fmt.Errorf("listen on %s %s: %w", what, addr, err)
}

// loadTLS reads the endpoint's certificate, and the authority that clients must
// show a certificate of.
func loadTLS(c HTTPTLS) (*tls.Config, error) {
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("http.tls.client_ca_file: %w", err)
		}
		out.ClientCAs = x509.NewCertPool()
		if !out.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("http.tls.client_ca_file: %s has no certificate in PEM", c.ClientCAFile)
		}
		out.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return out, nil
}

// check begins to check this host's services and to announce what comes of it.
func (a *Agent) check() error {
	a.announcer = newAnnouncer(a.registry, a.cluster, a.logger.Named("services"))
	go a.announcer.run()
	a.checks = checks.Start(checks.Config{
		Dial:     a.cfg.Seams.CheckDial,
		OnChange: func(string) { a.announcer.changed() },
		Logger:   a.logger.Named("checks"),
	})
	return a.registry.watch(a.checks)
}

// onMember is called by the cluster for every event, in order.
func (a *Agent) onMember(e cluster.Event, v *cluster.View) {
	a.rotate(v)
	a.events.add(memberEvent(e))
}

// rotate gives the selectors whom v calls eligible.
func (a *Agent) rotate(v *cluster.View) {
	a.rotating.Lock()
	defer a.rotating.Unlock()
	a.follow(v)
}

// onLock is called by the lock client for every event, in order.
func (a *Agent) onLock(e lockclient.Event) {
	a.locking.event(e)
	a.events.add(lockEvent(e, a.cfg.Name))
}

// HTTPAddr returns where the endpoint listens, HOST:PORT, or the path of the
// socket when there is no TCP listener.
func (a *Agent) HTTPAddr() string {
	if a.httpAddr != "" {
		return a.httpAddr
	}
	return a.socket
}

// GossipAddr returns the address that others use, HOST:PORT.
func (a *Agent) GossipAddr() string { return a.cluster.Self().Addr.String() }

// Name returns the peer's name.
func (a *Agent) Name() string { return a.cfg.Name }

// Done is closed when the agent has left because somebody asked for it over
// HTTP: the process should end.
func (a *Agent) Done() <-chan struct{} { return a.asked }

// Stop leaves politely: it turns not ready, releases its own locks, tells the
// others goodbye and closes. It takes 5 s at the most, less if ctx ends first,
// and may be called more than once.
func (a *Agent) Stop(ctx context.Context) error {
	if a.ended.CompareAndSwap(false, true) {
		a.goodbye(ctx)
		close(a.done)
	}
	<-a.done
	return a.err
}

// Kill ends the agent as a crash would: nobody is told, no lock is released.
// After a Stop that has begun it waits for that. Tests use it.
func (a *Agent) Kill() {
	if a.ended.CompareAndSwap(false, true) {
		a.kill()
		close(a.done)
	}
	<-a.done
}

// goodbye is Stop's work.
func (a *Agent) goodbye(ctx context.Context) {
	a.phase.Store("leaving")
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var errs []error
	if a.locks != nil {
		a.leases.close()
		errs = append(errs, a.locks.Close())
	}
	a.checks.Close()
	if a.dns != nil {
		errs = append(errs, a.dns.Close(ctx))
	}
	errs = append(errs, a.closeConsul(ctx), a.cluster.Leave(ctx))
	a.phase.Store("left")
	a.events.close()
	errs = append(errs, a.http.Close(ctx), a.cluster.Close())
	a.announcer.close()
	a.err = errors.Join(errs...)
	a.logger.Info("agent has left", "member", a.cfg.Name)
}

// kill breaks whatever is open.
func (a *Agent) kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a.events.close()
	if a.locks != nil {
		a.locks.Abandon() // first: who else ends here would give locks back
	}
	if a.dns != nil {
		_ = a.dns.Close(ctx)
	}
	_ = a.closeConsul(ctx)
	if a.cluster != nil {
		_ = a.cluster.Close()
	}
	if a.checks != nil {
		a.checks.Close()
	}
	if a.announcer != nil {
		a.announcer.close()
	}
	if a.http != nil {
		_ = a.http.Close(ctx)
	}
}
