package keyserver

import (
	"encoding/binary"

	"initd/qemu-tests/peer/ttlv"
)

// operate gives the fields of a response payload.
func (s *speaker) operate(op uint32, payload ttlv.Item) ([][]byte, error) {
	switch op {
	case ttlv.OpDiscoverVersions:
		return s.discover(payload)
	case ttlv.OpQuery:
		s.store.tell("query", "")
		if s.rules.Vendor == "" {
			return nil, nil
		}
		return [][]byte{ttlv.Text(ttlv.VendorIdentification, s.rules.Vendor)}, nil
	case ttlv.OpLocate:
		ids, err := s.store.locate(conditions(payload))
		if err != nil {
			return nil, err
		}
		var out [][]byte
		for _, id := range ids {
			out = append(out, ttlv.Text(ttlv.UniqueIdentifier, id))
		}
		return out, nil
	case ttlv.OpGetAttributes:
		return s.attributes(payload)
	case ttlv.OpGet:
		o, key, err := s.store.get(payload.String(ttlv.UniqueIdentifier))
		if err != nil {
			return nil, err
		}
		return [][]byte{ttlv.Enum(ttlv.ObjectType, o.typeNumber()), ttlv.Text(ttlv.UniqueIdentifier, o.ID), managedObject(o, key)}, nil
	}
	return nil, errUnsupported
}

func (s *speaker) discover(payload ttlv.Item) ([][]byte, error) {
	s.store.tell("discover", "")
	if s.rules.NoDiscover {
		return nil, errUnsupported
	}
	asked := payload.All(ttlv.ProtocolVersion)
	var out [][]byte
	for _, v := range s.versions() {
		major, minor := uint32(v[0]-'0'), uint32(v[2]-'0')
		wanted := len(asked) == 0
		for _, a := range asked {
			wanted = wanted || (a.Number(ttlv.ProtocolVersionMajor) == major && a.Number(ttlv.ProtocolVersionMinor) == minor)
		}
		if wanted {
			out = append(out, ttlv.Struct(ttlv.ProtocolVersion, ttlv.Int(ttlv.ProtocolVersionMajor, int32(major)), ttlv.Int(ttlv.ProtocolVersionMinor, int32(minor))))
		}
	}
	return out, nil
}

// conditions reads the attributes of a Locate (KMIP 1.4, section 4.9).
func conditions(payload ttlv.Item) []condition {
	var out []condition
	for _, a := range payload.All(ttlv.Attribute) {
		name := a.String(ttlv.AttributeName)
		value, _ := a.Get(ttlv.AttributeValue)
		switch {
		case value.Type == ttlv.Structure:
			out = append(out, condition{name, value.String(ttlv.NameValue)})
		case value.Type == ttlv.Enumeration && name == "Object Type":
			out = append(out, condition{name, typeByNumber(binary.BigEndian.Uint32(value.Value))})
		default:
			out = append(out, condition{name, string(value.Value)})
		}
	}
	return out
}

func (s *speaker) attributes(payload ttlv.Item) ([][]byte, error) {
	id := payload.String(ttlv.UniqueIdentifier)
	var names []string
	for _, n := range payload.All(ttlv.AttributeName) {
		names = append(names, string(n.Value))
	}
	o, names, err := s.store.describe(id, names)
	if err != nil {
		return nil, err
	}
	out := [][]byte{ttlv.Text(ttlv.UniqueIdentifier, o.ID)}
	for _, name := range names {
		if value := attributeValue(o, name); value != nil {
			out = append(out, ttlv.Struct(ttlv.Attribute, ttlv.Text(ttlv.AttributeName, name), value))
		}
	}
	return out, nil
}

// attributeValue is nil for what the object does not have.
func attributeValue(o Object, name string) []byte {
	switch name {
	case "Name":
		if o.Name == "" {
			return nil
		}
		return ttlv.Struct(ttlv.AttributeValue, ttlv.Text(ttlv.NameValue, o.Name), ttlv.Enum(ttlv.NameType, ttlv.NameUninterpreted))
	case "Object Type":
		return ttlv.Enum(ttlv.AttributeValue, o.typeNumber())
	case "State":
		if o.stateNumber() == 0 {
			return nil
		}
		return ttlv.Enum(ttlv.AttributeValue, o.stateNumber())
	case "Object Group":
		if o.Group == "" {
			return nil
		}
		return ttlv.Text(ttlv.AttributeValue, o.Group)
	case "Initial Date":
		if o.Initial == 0 {
			return nil
		}
		return ttlv.Date(ttlv.AttributeValue, o.Initial)
	}
	if v, ok := o.Attributes[name]; ok {
		return ttlv.Text(ttlv.AttributeValue, v)
	}
	return nil
}

// managedObject encodes an object with its key (KMIP 1.4, section 2.2).
func managedObject(o Object, key []byte) []byte {
	switch o.typeName() {
	case "OpaqueObject":
		return ttlv.Struct(ttlv.OpaqueObject, ttlv.Enum(ttlv.OpaqueDataType, 0x80000001), ttlv.Bytes(ttlv.OpaqueDataValue, key))
	case "SymmetricKey":
		return ttlv.Struct(ttlv.SymmetricKey, keyBlock(o, key))
	case "PrivateKey":
		return ttlv.Struct(ttlv.PrivateKey, keyBlock(o, key))
	}
	return ttlv.Struct(ttlv.SecretData, ttlv.Enum(ttlv.SecretDataType, ttlv.SecretDataPassword), keyBlock(o, key))
}

// keyBlock encodes KMIP 1.4, section 2.1.3.
func keyBlock(o Object, key []byte) []byte {
	material := ttlv.Bytes(ttlv.KeyMaterial, key)
	if o.formatNumber() == ttlv.FormatTransparentSymmetricKey {
		material = ttlv.Struct(ttlv.KeyMaterial, ttlv.Bytes(ttlv.Key, key))
	}
	value := ttlv.Struct(ttlv.KeyValue, material)
	if o.Wrapped {
		value = ttlv.Bytes(ttlv.KeyValue, key)
	}
	parts := [][]byte{ttlv.Enum(ttlv.KeyFormatType, o.formatNumber()), value}
	if o.typeName() == "SymmetricKey" {
		const aes = 3
		parts = append(parts, ttlv.Enum(ttlv.CryptographicAlgorithm, aes), ttlv.Int(ttlv.CryptographicLength, int32(len(key)*8)))
	}
	if o.Wrapped {
		parts = append(parts, ttlv.Struct(ttlv.KeyWrappingData, ttlv.Enum(ttlv.WrappingMethod, ttlv.WrapEncrypt),
			ttlv.Struct(ttlv.EncryptionKeyInformation, ttlv.Text(ttlv.UniqueIdentifier, "kek"))))
	}
	return ttlv.Struct(ttlv.KeyBlock, parts...)
}
