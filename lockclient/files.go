package lockclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// contents is what the files that a Config names contain. They are read once:
// one may be a pipe, and a Handle takes what was in them to where they are not.
type contents struct {
	read     bool
	Password *string `json:"password,omitempty"` // nil without a file
	CA       []byte  `json:"ca,omitempty"`       // PEM, as the next two
	Cert     []byte  `json:"cert,omitempty"`
	Key      []byte  `json:"key,omitempty"`
}

// readTLS completes t, which is nil without TLS, with what c's files say.
func (c Config) readTLS(t *tls.Config) error {
	switch f := c.files; {
	case f.read:
	case c.CAFile == "" && c.CertFile == "" && c.KeyFile == "":
		return nil
	case t == nil:
		return errors.New("files for redis tls are given, but the url does not ask for it: write rediss:// in it")
	case (c.CertFile == "") != (c.KeyFile == ""):
		return errors.New("redis tls: a certificate and its key go together")
	default:
		if err := f.readTLS(c); err != nil {
			return err
		}
	}
	return c.files.completeTLS(t, c.CAFile)
}

func (f *contents) readTLS(c Config) (err error) {
	if c.CAFile != "" {
		if f.CA, err = os.ReadFile(c.CAFile); err != nil {
			return fmt.Errorf("read redis certificate authorities: %w", err)
		}
	}
	if c.CertFile == "" {
		return nil
	}
	if err := private(c.KeyFile); err != nil {
		return fmt.Errorf("read redis key: %w", err)
	}
	if f.Cert, err = os.ReadFile(c.CertFile); err != nil {
		return fmt.Errorf("read redis certificate: %w", err)
	}
	if f.Key, err = os.ReadFile(c.KeyFile); err != nil {
		return fmt.Errorf("read redis certificate: %w", err)
	}
	return nil
}

func (f *contents) completeTLS(t *tls.Config, caFile string) error {
	if f.CA != nil {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(f.CA) {
			return fmt.Errorf("read redis certificate authorities: %s has no certificate in PEM", caFile)
		}
	}
	if f.Cert != nil {
		cert, err := tls.X509KeyPair(f.Cert, f.Key)
		if err != nil {
			return fmt.Errorf("read redis certificate: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return nil
}

// readPassword reads the file of that name, if there is one and it is not read
// yet.
func (f *contents) readPassword(file string) error {
	if f.read || file == "" {
		return nil
	}
	err := private(file)
	if err != nil {
		return fmt.Errorf("read redis password: %w", err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read redis password: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	f.Password = &password
	return nil
}

// private refuses a file that others than its owner may read.
func private(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be read by others: chmod 600 %[1]s", file)
	}
	return nil
}
