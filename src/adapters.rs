//! One adapter a file: the only places that name rumqttc, arti, sled, redb, ruma and sd-notify.

pub mod arti;
pub mod chain_files;
pub mod destination_files;
pub mod disk_room;
pub mod disk_store;
pub mod embedded_broker;
pub mod export_file;
pub mod http_lane;
pub mod kernel_clock;
pub mod matrix;
pub mod mqtt;
pub mod mqtt_publisher;
pub mod registry_file;
pub mod service_manager;
pub mod socks;
pub mod system_clock;
pub mod system_entropy;
