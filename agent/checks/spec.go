package checks

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Health of a service, in the words of the wire.
const (
	Passing  = "passing"
	Warning  = "warning"
	Critical = "critical"
)

// Defaults and bounds of a Spec.
const (
	DefaultInterval = 10 * time.Second
	DefaultTimeout  = 5 * time.Second
	DefaultRise     = 2
	DefaultFall     = 3

	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	maxTimeout  = time.Minute
	minTTL      = time.Second
	maxTTL      = 24 * time.Hour
	maxStreak   = 100
	maxTarget   = 2000 // bytes
)

// Spec says how a service is checked: exactly one of HTTP, TCP, GRPC and TTL is
// set.
type Spec struct {
	HTTP string // a URL: any 2xx passes, 429 is a warning
	TCP  string // HOST:PORT: who accepts a connection passes
	GRPC string // HOST:PORT or HOST:PORT/SERVICE: grpc.health.v1 says SERVING, without TLS

	// TTL is how long a sign of life lasts; see [Checker.Pass].
	TTL time.Duration

	Interval time.Duration // between two checks, ± 10 %; default 10 s
	Timeout  time.Duration // of one check; default 5 s, or Interval if that is less
	Rise     int           // good results in a row that make it better; default 2
	Fall     int           // bad results in a row that make it worse; default 3
}

// Kind returns http, tcp, grpc or ttl, or "" for none.
func (s Spec) Kind() string {
	switch {
	case s.HTTP != "":
		return "http"
	case s.TCP != "":
		return "tcp"
	case s.GRPC != "":
		return "grpc"
	case s.TTL != 0:
		return "ttl"
	}
	return ""
}

// Target returns what is asked, for a person.
func (s Spec) Target() string {
	if s.TTL != 0 {
		return s.TTL.String()
	}
	return s.HTTP + s.TCP + s.GRPC
}

func (s Spec) withDefaults() Spec {
	if s.Interval == 0 {
		s.Interval = DefaultInterval
	}
	if s.Timeout == 0 {
		s.Timeout = min(DefaultTimeout, s.Interval)
	}
	if s.Rise == 0 {
		s.Rise = DefaultRise
	}
	if s.Fall == 0 {
		s.Fall = DefaultFall
	}
	return s
}

// Validate reports every mistake in s at once.
func (s Spec) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	kinds := 0
	for _, set := range []bool{s.HTTP != "", s.TCP != "", s.GRPC != "", s.TTL != 0} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		bad("%d kinds of check: want exactly one of http, tcp, grpc and ttl", kinds)
	}
	if s.HTTP != "" {
		if err := validateURL(s.HTTP); err != nil {
			bad("http: %w", err)
		}
	}
	if s.TCP != "" {
		if err := validateHostPort(s.TCP); err != nil {
			bad("tcp: %w", err)
		}
	}
	if s.GRPC != "" {
		hostport, service, _ := strings.Cut(s.GRPC, "/")
		if err := validateHostPort(hostport); err != nil {
			bad("grpc: %w", err)
		}
		if len(service) > 200 || strings.ContainsFunc(service, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			bad("grpc: %q is no name of a gRPC service", service)
		}
	}
	if s.TTL != 0 {
		if s.TTL < minTTL || s.TTL > maxTTL {
			bad("ttl %v: want %v to %v", s.TTL, minTTL, maxTTL)
		}
		if s.Interval != 0 || s.Timeout != 0 || s.Rise != 0 || s.Fall != 0 {
			bad("interval, timeout, rise and fall do not go with ttl: the service itself says how it is")
		}
	} else {
		if s.Interval != 0 && (s.Interval < minInterval || s.Interval > maxInterval) {
			bad("interval %v: want %v to %v", s.Interval, minInterval, maxInterval)
		}
		if s.Timeout != 0 && (s.Timeout < 10*time.Millisecond || s.Timeout > maxTimeout) {
			bad("timeout %v: want 10ms to %v", s.Timeout, maxTimeout)
		}
	}
	if s.Rise < 0 || s.Rise > maxStreak {
		bad("rise %d: want 1 to %d", s.Rise, maxStreak)
	}
	if s.Fall < 0 || s.Fall > maxStreak {
		bad("fall %d: want 1 to %d", s.Fall, maxStreak)
	}
	return errors.Join(errs...)
}

func validateURL(s string) error {
	if len(s) > maxTarget {
		return fmt.Errorf("a URL of %d bytes, at most %d fit", len(s), maxTarget)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is no URL", s)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return fmt.Errorf("%q: want a URL such as http://127.0.0.1:8080/healthz", s)
	case u.User != nil:
		return errors.New("the URL carries a user or password, which would be shown to whoever lists the services")
	}
	if p := u.Port(); p != "" {
		return validatePort(p)
	}
	return nil
}

func validateHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		return fmt.Errorf("%q: want HOST:PORT, such as 127.0.0.1:5432", s)
	}
	return validatePort(port)
}

func validatePort(p string) error {
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q: want a number from 1 to 65535", p)
	}
	return nil
}
