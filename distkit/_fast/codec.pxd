"""What `wire` needs of this kernel."""

from libc.stdint cimport uint8_t, uint32_t


cdef uint32_t extend_crc(uint32_t crc, const uint8_t* at, Py_ssize_t length) except? 0

cdef const uint8_t* checked(bytes block) except NULL
