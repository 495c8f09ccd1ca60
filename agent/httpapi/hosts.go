package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

// A hostList has the names under which requests may come. A page of a foreign
// site that has its own name point here ("DNS rebinding") sends that name, and
// is refused; an address of the loopback can be nobody's name.
type hostList struct {
	listen  string          // host of http.addr, folded
	allowed map[string]bool // http.allowed_hosts, folded
}

func newHostList(addr string, allowed []string) (hostList, error) {
	l := hostList{allowed: map[string]bool{}}
	if addr != "" {
		l.listen = foldHost(hostOnly(addr))
	}
	for _, h := range allowed {
		f := foldHost(h)
		if f == "" || strings.ContainsAny(f, "/*@ ,") {
			return l, fmt.Errorf("http.allowed_hosts: %q is no host name; write peer.example.com or 192.0.2.1", h)
		}
		if host, _, err := net.SplitHostPort(f); err == nil {
			return l, fmt.Errorf("http.allowed_hosts: %q has a port; write %q, ports do not matter", h, host)
		}
		l.allowed[strings.Trim(f, "[]")] = true
	}
	return l, nil
}

// allows says whether a request may come under host, the Host header, on a
// connection whose own end is at local.
func (l hostList) allows(host string, local net.Addr) bool {
	if host == "" {
		return true // HTTP/1.0; no browser leaves it out
	}
	h := foldHost(hostOnly(host))
	if h == "" {
		return false
	}
	if h == "localhost" || h == l.listen || l.allowed[h] {
		return true
	}
	ip, err := netip.ParseAddr(h)
	if err != nil {
		return false
	}
	// An agent on every address may be asked under the one the client used.
	return ip.Unmap().IsLoopback() || local != nil && sameIP(ip, local)
}

func sameIP(ip netip.Addr, a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().WithZone("") == ip.Unmap().WithZone("")
}

// own says whether the page at origin is ours: it comes from where the request
// goes to, or from a host that was allowed by name.
func (l hostList) own(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return false // "null" too
	}
	return strings.EqualFold(u.Host, host) || l.allowed[foldHost(hostOnly(u.Host))]
}

// hostOnly returns host:port without the port.
func hostOnly(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return strings.Trim(s, "[]")
}

func foldHost(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

// checkHost refuses a request that came under a foreign name.
func (s *Server) checkHost(r *http.Request) *api.Problem {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if s.hosts.allows(r.Host, local) {
		return nil
	}
	name := hostOnly(r.Host)
	return api.NewProblem(http.StatusMisdirectedRequest, api.KindMisdirected,
		fmt.Sprintf("the request came for host %q, which is not one of this agent's names", r.Host),
		fmt.Sprintf("ask under localhost or the listen address, or add %q to http.allowed_hosts", name))
}

// checkOrigin refuses what a page of another origin makes a browser send. Other
// programs send neither header.
func (s *Server) checkOrigin(r *http.Request) *api.Problem {
	origin := r.Header.Get("Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	switch {
	case origin != "" && !s.hosts.own(origin, r.Host):
		return foreign(fmt.Sprintf("a page of origin %q sent it", origin))
	case origin != "", site == "", site == "same-origin", site == "none":
		return nil
	case safe(r.Method) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document":
		return nil // someone followed a link; the page that has it cannot read the answer
	}
	return foreign(fmt.Sprintf("a %s page sent it", site))
}

func foreign(detail string) *api.Problem {
	return api.NewProblem(http.StatusForbidden, api.KindForbidden, detail,
		"use the agent's own page or the command line; behind a proxy, add its host name to http.allowed_hosts")
}

// safe says whether a method promises to change nothing.
func safe(method string) bool { return method == http.MethodGet || method == http.MethodHead }
