// Package dns answers DNS queries for peers and their services, so that whatever
// resolves a name finds a live one:
//
//	NAME.node.peer          A, AAAA        a member
//	web.service.peer        A, AAAA, SRV   where web is well
//	canary.web.service.peer                those of them with the tag canary
//	_web._tcp.service.peer  SRV            the form of RFC 2782
//
// Answers are rotated and live for no time (TTL 0). A name that does not exist
// is NXDOMAIN; a service that is well nowhere, and a name without the type that
// is asked for, is an empty answer; both carry the SOA. It resolves nothing
// else: other names are refused.
//
// It knows nothing of gossip: a Source tells who is live. Goroutines: one a
// listener and those of the dns library for each query; Close waits for them.
package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/miekg/dns"
)

// DefaultDomain is the domain of who names none.
const DefaultDomain = "peer"

// Target is a service on one host.
type Target struct {
	Node   string     // of the member
	IP     netip.Addr // of the member
	Addr   string     // of the service: an IP address or a host name; empty means IP
	Port   uint16
	Weight int
}

// Source tells what the answers are made of. Its methods are called from many
// goroutines.
type Source interface {
	// Service returns where the service called name, with tag if that is not
	// empty, may be used now, in the order in which to try, and whether it runs
	// anywhere at all.
	Service(name, tag string) (live []Target, known bool)
	// Node returns the address of the member called name, in whatever case, and
	// whether it is known and whether it is live.
	Node(name string) (ip netip.Addr, live, known bool)
}

// Config says where a Server listens and what it answers.
type Config struct {
	// UDP and TCP are what it listens on; the Server closes them.
	UDP net.PacketConn
	TCP net.Listener
	// Domain is the one that names end in. Default: peer.
	Domain string
	// Logger gets what does not work. Default: none.
	Logger hclog.Logger
}

// Server is a running DNS server.
type Server struct {
	domain  string // with a dot at its end
	source  Source
	log     hclog.Logger
	servers []*dns.Server
	wg      sync.WaitGroup
	once    sync.Once
}

// ValidateDomain says why names cannot end in s.
func ValidateDomain(s string) error {
	labels, ok := dns.IsDomainName(s)
	if !ok || labels == 0 || len(s) > 100 || strings.ContainsAny(s, " \t_\\") {
		return fmt.Errorf("%q is no domain, such as %s or peer.example.net", s, DefaultDomain)
	}
	return nil
}

// Start answers queries until Close.
func Start(cfg Config, source Source) (*Server, error) {
	if cfg.Domain == "" {
		cfg.Domain = DefaultDomain
	}
	if err := ValidateDomain(cfg.Domain); err != nil {
		return nil, fmt.Errorf("start dns: %w", err)
	}
	if cfg.UDP == nil || cfg.TCP == nil {
		return nil, errors.New("start dns: it needs a UDP and a TCP listener")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	s := &Server{domain: dns.CanonicalName(cfg.Domain), source: source, log: cfg.Logger}
	s.run(&dns.Server{PacketConn: cfg.UDP, Handler: s.handler(true), UDPSize: maxUDP})
	s.run(&dns.Server{Listener: cfg.TCP, Handler: s.handler(false), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: func() time.Duration { return 8 * time.Second }})
	return s, nil
}

func (s *Server) run(srv *dns.Server) {
	up := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(up) }
	s.servers = append(s.servers, srv)
	s.wg.Go(func() {
		if err := srv.ActivateAndServe(); err != nil {
			s.log.Error("dns does not answer any more", "err", err)
		}
	})
	<-up
}

// Close ends the server and returns when the last answer is out or ctx is done.
func (s *Server) Close(ctx context.Context) error {
	var errs []error
	s.once.Do(func() {
		for _, srv := range s.servers {
			errs = append(errs, srv.ShutdownContext(ctx))
		}
		s.wg.Wait()
	})
	return errors.Join(errs...)
}

func (s *Server) handler(udp bool) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		if err := w.WriteMsg(s.answer(req, udp)); err != nil {
			s.log.Debug("write dns answer", "err", err)
		}
	})
}
