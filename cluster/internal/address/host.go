package address

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Host is what a Chooser asks of the machine it runs on.
type Host interface {
	// Addrs returns the addresses of all interfaces. It is asked every few
	// seconds.
	Addrs() ([]netip.Addr, error)
	// Interfaces returns the addresses of the interfaces that are up, with
	// their names.
	Interfaces() ([]Interface, error)
	// Route returns the address that this host would send from to the Internet,
	// over IPv4 where bind allows it, else over IPv6. No packet is sent.
	Route(bind netip.Addr) (netip.Addr, error)
}

// ThisHost returns the machine that this process runs on.
func ThisHost() Host { return thisHost{} }

type thisHost struct{}

func (thisHost) Addrs() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces' addresses: %w", err)
	}
	return ips(addrs), nil
}

func (thisHost) Interfaces() ([]Interface, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var out []Interface
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away in between
		}
		for _, a := range ips(addrs) {
			out = append(out, Interface{Name: i.Name, Addr: a})
		}
	}
	return out, nil
}

// ips returns the addresses among those that an interface has.
func ips(addrs []net.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out
}

func (thisHost) Route(bind netip.Addr) (netip.Addr, error) {
	// Root name servers: addresses that no host routes in a way of their own.
	far := []string{"198.41.0.4:53", "[2001:503:ba3e::2:30]:53"}
	if bind.Unmap().Is4() {
		far = far[:1]
	}
	var errs []error
	for _, f := range far {
		c, err := net.Dial("udp", f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		c.Close() //nolint:errcheck // nothing was written
		return local, nil
	}
	return netip.Addr{}, fmt.Errorf("find the default route: %w", errors.Join(errs...))
}
