package testcluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
)

// BlockUDP loses every datagram between hosts and lets streams pass, until
// Heal.
func (w *World) BlockUDP() {
	switch m := w.machines.(type) {
	case *virtual:
		link := Wire
		link.BlockUDP = true
		m.net.SetDefault(link)
	case *namespaces:
		m.blockUDP()
	default:
		w.Fatal("this world's network cannot be changed")
	}
}

// Lose loses this share, between 0 and 1, of what hosts of from send to hosts
// of to, until Heal.
func (w *World) Lose(from, to []*Node, share float64) {
	switch m := w.machines.(type) {
	case *virtual:
		m.lose(from, to, share)
	case *namespaces:
		m.lose(from, to, share)
	default:
		w.Fatal("this world's network cannot be changed")
	}
}

// TakeAddress takes n's address from its host, whose process runs on if there
// is one. It is for the world of namespaces, as is all that follows here: what
// happens then is the kernel's doing.
func (n *Node) TakeAddress() {
	ns, h := n.kernel()
	ns.must(run(fmt.Sprintf("ip -n %s%s addr del %s/16 dev eth0", ns.name, h.veth, h.ip)))
}

// GiveAddress gives n's host another address, as DHCP may; n's process, if
// there is one, is not told.
func (n *Node) GiveAddress() {
	ns, h := n.kernel()
	h.ip = ns.address()
	ns.must(run(fmt.Sprintf("ip -n %s%s addr add %s/16 dev eth0", ns.name, h.veth, h.ip)))
}

// LinkDown takes n's interface down: nothing can be sent, and the kernel says so.
func (n *Node) LinkDown() { n.link("down") }

// LinkUp undoes LinkDown.
func (n *Node) LinkUp() { n.link("up") }

func (n *Node) link(state string) {
	ns, h := n.kernel()
	ns.must(run(fmt.Sprintf("ip -n %s%s link set eth0 %s", ns.name, h.veth, state)))
}

// Resolve has a name stand for the addresses of these, for every peer of the
// world, instead of what it stood for before: by a name server in virtual time,
// and in namespaces by the /etc/hosts of every host that is placed by now.
func (w *World) Resolve(name string, nodes ...*Node) {
	w.Helper()
	var addrs []netip.Addr
	for _, n := range nodes {
		addrs = append(addrs, netip.MustParseAddrPort(n.Addr()).Addr())
	}
	switch m := w.machines.(type) {
	case *virtual:
		m.names.set(name, addrs)
	case *namespaces:
		for _, n := range w.nodes {
			if err := setHosts(n.host.(*processHost).hosts(), name, addrs); err != nil {
				w.Fatal(err)
			}
		}
	default:
		w.Fatal("this world has no names")
	}
}

// nameServer is a resolver that knows what it is told.
type nameServer struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

func (s *nameServer) set(name string, addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addrs == nil {
		s.addrs = map[string][]netip.Addr{}
	}
	s.addrs[name] = addrs
}

func (s *nameServer) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addrs := s.addrs[host]; len(addrs) > 0 {
		return slices.Clone(addrs), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (*nameServer) LookupSRV(_ context.Context, _, _, name string) (string, []*net.SRV, error) {
	return "", nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// setHosts has a name stand for addrs in a hosts file. It writes it in place,
// for it is mounted.
func setHosts(path, name string, addrs []netip.Addr) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(line, " "+name+"\n") {
			out.WriteString(line)
		}
	}
	for _, a := range addrs {
		fmt.Fprintf(&out, "%s %s\n", a, name)
	}
	return os.WriteFile(path, []byte(out.String()), 0o600)
}

func (n *Node) kernel() (*namespaces, *processHost) {
	n.w.Helper()
	ns, ok := n.w.machines.(*namespaces)
	if !ok {
		n.w.Fatal("only hosts in namespaces can do that")
	}
	return ns, n.host.(*processHost)
}
