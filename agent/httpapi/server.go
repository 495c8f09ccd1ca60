// Package httpapi serves an agent's local HTTP endpoint: the JSON routes, the
// event stream, the probes, the metrics and the status page.
//
// It knows nothing of gossip, of Redis or of how a peer is chosen: it asks an
// Agent. What it promises is the HTTP around the answers. Every error is a
// problem document that names the way to mend it; nothing is parsed before it
// is bounded; a web page of another origin can neither read nor write; a client
// that stalls is cut off, and takes no slot from a probe.
//
// Goroutines: one for each listener, and those of net/http for each connection.
// Close waits for all of them.
package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/peerhq/peer/agent/web"
)

// Limits of the endpoint. They are not settings: an agent is asked by the few
// programs beside it, and these leave them room.
const (
	maxConns   = 256 // on each listener
	maxStreams = 64  // event streams
	maxBlocked = 128 // blocking reads that wait

	maxHeader = 16 << 10 // bytes
	maxBody   = 64 << 10 // bytes

	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second // of a whole answer
	streamTimeout = 10 * time.Second // of one write to a stream
	idleTimeout   = 60 * time.Second
)

// Config says where an endpoint listens and whom it lets in.
type Config struct {
	// TCP and Socket are the listeners to serve; one of them may be nil. The
	// Server closes them. On Socket there is no check of host, origin or token:
	// who may open it is decided by the file's mode.
	TCP, Socket net.Listener
	// TLS makes TCP speak HTTPS. Default: HTTP.
	TLS *tls.Config
	// Addr is http.addr as configured; its host is a name under which requests
	// may come.
	Addr string
	// AllowedHosts are further names, without ports (http.allowed_hosts).
	AllowedHosts []string
	// Token, when not empty, is wanted by every route but the probes.
	Token []byte
	// TokenHeader is one more header that may carry the token, for clients that
	// have a way of their own. Default: none.
	TokenHeader string
	// Gatherer has the agent's metrics; the endpoint adds its own. May be nil.
	Gatherer prometheus.Gatherer
	// Version is the agent's, for the Server header.
	Version string
	// Logger gets refusals and panics. Default: none.
	Logger hclog.Logger
}

// Server is a running endpoint.
type Server struct {
	cfg     Config
	agent   Agent // nil when the routes are somebody else's
	log     hclog.Logger
	http    *http.Server
	pages   *web.Pages
	metrics *metrics
	hosts   hostList
	mux     *http.ServeMux
	scrape  http.Handler
	known   map[string]bool // paths of routes without a variable, for suggestions

	streams, blocked, waits slots
	look                    *lockLook
	lastPanic               atomic.Uint64

	stopping context.Context // done when Close begins: streams and waits end
	stop     context.CancelFunc
	serving  sync.WaitGroup // the listeners' goroutines
	requests gate
	closing  sync.Once
	closed   error
}

// errStopping ends streams and blocking reads when the endpoint closes.
var errStopping = errors.New("the agent is stopping")

// Start serves a on cfg's listeners until Close.
func Start(cfg Config, a Agent) (*Server, error) {
	pages, err := web.New()
	if err != nil {
		return nil, fmt.Errorf("start http endpoint: %w", err)
	}
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	s.agent, s.pages = a, pages
	s.metrics = newMetrics("peer_http", "the local HTTP endpoint")
	s.metrics.register(s)
	s.scrape = s.metricsHandler()
	s.mux, s.known = s.routing()
	s.start()
	return s, nil
}

// newServer checks cfg and returns a Server that does not run yet.
func newServer(cfg Config) (*Server, error) {
	if cfg.TCP == nil && cfg.Socket == nil {
		return nil, errors.New("start http endpoint: neither a TCP nor a socket listener")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	hosts, err := newHostList(cfg.Addr, cfg.AllowedHosts)
	if err != nil {
		return nil, fmt.Errorf("start http endpoint: %w", err)
	}
	s := &Server{
		cfg:     cfg,
		log:     cfg.Logger,
		hosts:   hosts,
		streams: newSlots(maxStreams),
		blocked: newSlots(maxBlocked),
		waits:   newSlots(maxWaits),
		look:    newLockLook(),
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		// No ReadTimeout: it would end a long wait for an event together with
		// the request. Bodies get a deadline of their own in admit.
		WriteTimeout:   writeTimeout, // re-armed by whatever takes longer
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader - 4096, // net/http adds 4 KiB to it
		ConnContext:    connContext,
		ConnState:      connState,
		ErrorLog:       cfg.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	return s, nil
}

// start begins to accept.
func (s *Server) start() {
	for _, l := range []net.Listener{tcpListener(s.cfg, s.metrics), socketListener(s.cfg, s.metrics)} {
		if l != nil {
			s.serving.Go(func() { s.serve(l) })
		}
	}
}

func tcpListener(cfg Config, m *metrics) net.Listener {
	if cfg.TCP == nil {
		return nil
	}
	l := limitConns(cfg.TCP, maxConns, false, m)
	if cfg.TLS != nil {
		return tls.NewListener(l, cfg.TLS)
	}
	return l
}

func socketListener(cfg Config, m *metrics) net.Listener {
	if cfg.Socket == nil {
		return nil
	}
	return limitConns(cfg.Socket, maxConns, true, m)
}

func (s *Server) serve(l net.Listener) {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("http endpoint does not accept any more", "addr", l.Addr(), "err", err)
	}
}

// Close ends streams and waits at once, lets other requests finish until ctx is
// done, and then cuts them off. It returns when the last one has ended; the
// error is that of ctx when any had to be cut off. Later calls return the same.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.stop()
		s.closed = s.http.Shutdown(ctx)
		if s.closed != nil {
			s.closed = fmt.Errorf("close http endpoint: %w", errors.Join(s.closed, s.http.Close()))
		}
		s.serving.Wait()
		s.requests.shut()
	})
	return s.closed
}

// untilStop returns ctx, cancelled with errStopping when Close begins. The
// caller calls the returned function when it is done with it.
func (s *Server) untilStop(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	return ctx, func() { detach(); cancel(nil) }
}
