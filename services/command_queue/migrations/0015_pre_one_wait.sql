-- Who was somebody's own is not asked any more: enrollment's wait is the only one (decision 65).
DROP INDEX device_personal;
