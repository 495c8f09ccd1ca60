// Package grpcresolver resolves names of services for gRPC by the agent beside
// the program: a target peer:///web is wherever web runs and is well, as package
// balance sees it.
//
//	import _ "github.com/peerhq/peer/agent/balance/grpcresolver"
//
//	conn, err := grpc.NewClient("peer:///web",
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
//		grpc.WithTransportCredentials(…))
//
// The balancer is gRPC's own affair: name one, for its default, pick_first,
// keeps to a single instance. The forms of a target are
//
//	peer:///web                      by the agent that PEER_HTTP_ADDR names, or at its usual address
//	peer://127.0.0.1:7980/web        by the agent at that address
//	peer:///web?tag=v2&tag=eu        only instances with all of these tags
//	peer:///web?member=zone:x        only on members with this tag
//
// What gRPC is told follows the agent within milliseconds. While nobody is live
// the list is empty: RPCs fail as Unavailable, and those that wait for ready
// wait, and go on as soon as somebody is back. While the agent is away gRPC keeps
// the last list; only when there has never been one it is told the error.
//
// It is a module of its own, so that package balance does not depend on gRPC.
package grpcresolver

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/peerhq/peer/agent/balance"
)

// Scheme is that of the targets.
const Scheme = "peer"

func init() { resolver.Register(New(balance.Config{})) }

// New returns a builder for grpc.WithResolvers whose watches have cfg for a
// pattern, for an agent with a token or TLS. Service, Tags, MemberTags and, if
// it names one, the agent's address come from the target. Its OnChange is not
// called, and what chooses a single peer, such as Policy, has no effect.
func New(cfg balance.Config) resolver.Builder { return builder{cfg} }

type builder struct{ cfg balance.Config }

// Scheme returns the scheme of the targets.
func (builder) Scheme() string { return Scheme }

// Build begins to follow the service of a target. gRPC calls it.
func (b builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	cfg, err := parse(target.URL, b.cfg)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", target.URL.Redacted(), err)
	}
	cfg.OnChange = func(v balance.View) { tell(cc, v) }
	w, err := balance.Start(cfg)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", target.URL.Redacted(), err)
	}
	return watch{w}, nil
}

// parse makes what a target says part of cfg.
func parse(u url.URL, cfg balance.Config) (balance.Config, error) {
	name := u.Path
	if name == "" {
		name = u.Opaque
	}
	cfg.Service = strings.TrimPrefix(name, "/")
	if cfg.Service == "" || strings.Contains(cfg.Service, "/") {
		return cfg, errors.New("want peer:///SERVICE, or peer://HOST:PORT/SERVICE")
	}
	if u.User != nil {
		return cfg, errors.New("it carries a user; an agent knows only tokens, of a balance.Config's Client")
	}
	if u.Host != "" {
		cfg.Agent, cfg.Client = u.Host, nil
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return cfg, err
	}
	for k, vs := range q {
		switch k {
		case "tag":
			cfg.Tags = vs
		case "member":
			cfg.MemberTags = map[string]string{}
			for _, v := range vs {
				tag, value, ok := strings.Cut(v, ":")
				if !ok || tag == "" {
					return cfg, fmt.Errorf("member=%s: want member=KEY:VALUE", v)
				}
				cfg.MemberTags[tag] = value
			}
		default:
			return cfg, fmt.Errorf("unknown parameter %q: there are tag and member", k)
		}
	}
	return cfg, nil
}

// tell passes a view on. It is called by one goroutine, which must not be the one
// that closes the resolver; gRPC's methods do not wait for that.
func tell(cc resolver.ClientConn, v balance.View) {
	if v.Changed.IsZero() {
		cc.ReportError(v.Err)
		return
	}
	if v.Err != nil {
		return // the last list stays
	}
	s := resolver.State{Endpoints: make([]resolver.Endpoint, 0, len(v.Peers)), Addresses: make([]resolver.Address, 0, len(v.Peers))}
	for _, p := range v.Peers {
		a := resolver.Address{Addr: p.HostPort()}
		s.Addresses = append(s.Addresses, a)
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	// The error is that of an empty list, or of a balancer that does not take
	// this one; asking again would change neither.
	_ = cc.UpdateState(s)
}

// watch is a resolver that is told, and need not be asked.
type watch struct{ *balance.Watch }

// ResolveNow does nothing: what there is to know is known.
func (watch) ResolveNow(resolver.ResolveNowOptions) {}
