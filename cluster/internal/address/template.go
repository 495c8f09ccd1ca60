package address

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/go-sockaddr/template"

	"github.com/peerhq/peer/cluster/internal/text"
)

func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// expandTemplate returns the one address that the go-sockaddr template s gives.
func expandTemplate(s string) (netip.Addr, error) {
	out, err := template.Parse(s)
	if err != nil {
		return netip.Addr{}, err
	}
	fields := strings.Fields(out)
	switch len(fields) {
	case 0:
		return netip.Addr{}, errors.New("the template gives no address on this host: check the interface that it names, or give an IP address")
	case 1:
	default:
		return netip.Addr{}, fmt.Errorf("the template gives %d addresses (%s): narrow it to one, such as with | limit 1", len(fields), strings.Join(fields, ", "))
	}
	ip, err := netip.ParseAddr(fields[0])
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the template gives %s, which is no IP address: end it with | attr \"address\"", text.Quote(fields[0]))
	}
	return ip.Unmap(), nil
}
