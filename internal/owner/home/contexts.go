// SPDX-License-Identifier: Apache-2.0

package home

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sealift/cose"
)

// DefaultContext is the name of a context when none is given.
const DefaultContext = "default"

// Context is an M/OC as the owner knows it.
type Context struct {
	URL     string      `json:"url"`                // base address of the REST API
	Token   string      `json:"token,omitempty"`    // bearer token
	TAMKeys []*cose.Key `json:"tam_keys,omitempty"` // the keys that the Agents of this M/OC may obey; pinned when the context was set
	CA      string      `json:"ca,omitempty"`       // PEM of the certificate authority of the M/OC; empty: the system's

	// PolicySigners are the keys of which one must have signed each policy that is used with this M/OC; empty: unsigned ones are
	// taken too.
	PolicySigners []*cose.Key `json:"policy_signers,omitempty"`
}

// Check says what is wrong with c. A token is not sent in the clear to another machine.
func (c *Context) Check() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not the address of an M/OC (as in https://host:port)", c.URL)
	}
	if strings.ContainsAny(c.Token, " \t\r\n") {
		return errors.New("the token holds white space")
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); u.Scheme == "http" && c.Token != "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("a token would travel in the clear to %s: use https", u.Host)
	}
	return nil
}

// SetContext stores a context and makes it the one in use.
func (h *Home) SetContext(name string, c Context) error {
	if err := c.Check(); err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.writeJSON(kindContext, name, c); err != nil {
		return err
	}
	return writeFile(filepath.Join(h.dir, "context"), []byte(name+"\n"))
}

// PinTAM stores the TAM keys of a context.
func (h *Home) PinTAM(name string, keys []*cose.Key) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var c Context
	if err := h.readJSON(kindContext, name, &c); err != nil {
		return err
	}
	c.TAMKeys = keys
	return h.writeJSON(kindContext, name, c)
}

// UseContext makes a stored context the one in use.
func (h *Home) UseContext(name string) error {
	var c Context
	if err := h.readJSON(kindContext, name, &c); err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return writeFile(filepath.Join(h.dir, "context"), []byte(name+"\n"))
}

// Context returns the context called name, or the one in use when name is empty, and its name.
func (h *Home) Context(name string) (*Context, string, error) {
	if name == "" {
		data, err := os.ReadFile(filepath.Join(h.dir, "context"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, "", fmt.Errorf("no context is in use: %w", ErrNotFound)
		} else if err != nil {
			return nil, "", err
		}
		name = strings.TrimSpace(string(data))
	}
	var c Context
	if err := h.readJSON(kindContext, name, &c); err != nil {
		return nil, "", err
	}
	return &c, name, nil
}

// Contexts returns the names of all contexts.
func (h *Home) Contexts() ([]string, error) { return h.list(kindContext, ".json") }

// RemoveContext forgets a context.
func (h *Home) RemoveContext(name string) error { return h.remove(kindContext, name, ".json") }
